"""How far a classifier's confidence is from how often it is right."""

from __future__ import annotations

import torch
from torch import Tensor


def calibration_error(probabilities: Tensor, classes: Tensor, share: Tensor | None = None, bins: int = 15) -> Tensor:
    """The expected calibration error (Guo et al. 2017), a number in [0, 1]; 0 is best.

    Images fall into bins of equal width by their confidence, the largest of their probabilities (N, L); the error is
    the mean over images of |accuracy - confidence| of their bin. `classes` (N,) are the true ones; `share` (N,) says
    how much each image counts, 1 in all, where that is not the same.
    """
    confidence, predicted = probabilities.max(1)
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins (0, 1/15], (1/15, 2/15], ...
    gap = (predicted == classes).to(confidence.dtype) - confidence
    gap = gap / len(gap) if share is None else gap * share
    total = torch.zeros(bins, dtype=gap.dtype, device=gap.device).index_add_(0, index, gap)
    return total.abs().sum()
