"""Exponential moving average of the weights; the averaged network is the one that is evaluated (paper, 3.1)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def update_ema(average: Iterable[Tensor], current: Iterable[Tensor], decay: float, step: int) -> None:
    """Move the averaged weights towards the current ones, in place.

    The decay rises with the step (counted from 1) up to `decay`, so that a short run is not dominated by its random
    start. (Deviation: the paper's decay is constant; after 10 / (1 - decay) steps there is no difference.)
    """
    weight = 1 - min(decay, step / (step + 9))
    torch._foreach_lerp_(list(average), list(current), weight)
