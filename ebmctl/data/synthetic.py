"""Images without meaning, as outliers."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset, TensorImages

COUNT = 10_000


def make_noise(request: DataRequest) -> ImageDataset:
    """Uniform noise, the same each time; the splits differ."""
    shape = (COUNT, request.channels, request.size, request.size)
    if request.size > 64:
        shape = (1_000, *shape[1:])  # bounded memory
    return TensorImages(torch.randint(0, 256, shape, dtype=torch.uint8, generator=_seeded(request)))


def make_constant(request: DataRequest) -> ImageDataset:
    """Images of one colour each, uniform among all colours, the same each time; the splits differ."""
    colors = torch.randint(0, 256, (COUNT, request.channels, 1, 1), dtype=torch.uint8, generator=_seeded(request))
    return TensorImages(colors.expand(-1, -1, request.size, request.size))


def _seeded(request: DataRequest) -> torch.Generator:
    return torch.Generator().manual_seed(0 if request.split == "train" else 1)
