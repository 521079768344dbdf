"""Statistics of the pixels of images."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ebmctl.core.augment import LUMA
from ebmctl.evaluation.results import PixelStatistic

PAIRED = 1_000  # images at most whose pairwise distances are taken
BINS = 16
CLIPPED = 0.02  # this near to 0 or 1


def spread(images: Tensor) -> float:
    """The mean pairwise distance of images (B, C, H, W), 1,000 of them at most, per pixel value (root mean square)."""
    flat = images[:PAIRED].flatten(1).cpu().double()
    distance = torch.pdist(flat).mean().item()
    return float(distance / flat.shape[1] ** 0.5)


def look(samples: Tensor, data: Tensor) -> dict[str, PixelStatistic]:
    """Statistics of the pixels of samples (B, C, H, W), and those of the data.

    `histogram distance` is the share of pixel values that would have to move; the data's is that of its two halves.
    """
    middle = len(data) // 2
    found = {name: PixelStatistic(float(of(samples)), float(of(data))) for name, of in STATISTICS.items()}
    if samples.shape[1] == 1:
        del found["saturation"]
    own = _moved(data[:middle], data[middle:]) if middle else 0.0
    return {**found, "histogram distance": PixelStatistic(_moved(samples, data), own)}


def histogram(images: Tensor) -> Tensor:
    """The shares of pixel values in 16 bins from 0 to 1."""
    return torch.histc(images.float(), BINS, 0, 1) / images.numel()


def sharpness(images: Tensor) -> Tensor:
    """The mean absolute Laplacian of the luminance."""
    grey = _luminance(images)
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (around - 4 * inner).abs().mean()


STATISTICS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sharpness": sharpness,
    "brightness": torch.mean,
    "contrast": lambda images: _luminance(images).flatten(1).std(1).mean(),
    "saturation": lambda images: (images.amax(1) - images.amin(1)).mean(),
    "clipped": lambda images: ((images < CLIPPED) | (images > 1 - CLIPPED)).float().mean(),
}


def _luminance(images: Tensor) -> Tensor:
    """The luminance (B, H, W) of images (B, C, H, W)."""
    if images.shape[1] == 1:
        return images[:, 0]
    return (images * torch.tensor(LUMA, device=images.device).view(1, 3, 1, 1)).sum(1)


def _moved(samples: Tensor, data: Tensor) -> float:
    return float((histogram(samples) - histogram(data)).abs().sum() / 2)
