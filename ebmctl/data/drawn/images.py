"""Datasets whose images are drawn here, on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageBatch, Split

COUNT = {"train": 50_000, "test": 5_000}
Draw = Callable[[list[int], DataRequest], tuple[Tensor, Tensor]]


class DrawnImages:
    """Images that are drawn once and kept; an index always gives the same image.

    `draw(indices, request)` gives images (B, C, H, W), uint8, and labels (B, L).
    """

    exclusive = False

    def __init__(self, request: DataRequest, label_names: Sequence[str], draw: Draw) -> None:
        self.request, self.label_names, self.draw = request, tuple(label_names), draw
        count = COUNT[request.split]
        self.images = torch.empty((count, request.channels, request.size, request.size), dtype=torch.uint8)
        self.labels = torch.empty(count, len(self.label_names))
        self.drawn = torch.zeros(count, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        rows = torch.as_tensor(indices)
        new = torch.unique(rows[~self.drawn[rows]])
        if len(new):
            self.images[new], self.labels[new] = self.draw(new.tolist(), self.request)
            self.drawn[new] = True
        return ImageBatch(self.images[rows], self.labels[rows])


def stream(split: Split) -> int:
    """The second part of an image's seed, after its index: no image of one split is drawn in the other."""
    return 0 if split == "train" else 1
