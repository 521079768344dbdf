"""A classifier that needs no training."""

from __future__ import annotations

from types import SimpleNamespace

import torch


class Projection:
    """A classifier whose features are fixed random projections of 16 x 16 grey images."""

    config = SimpleNamespace(size=16, channels=1)

    def __init__(self) -> None:
        self.matrix = torch.randn(256, 6, generator=torch.Generator().manual_seed(0)) / 8

    def features(self, x):
        return x.flatten(1) @ self.matrix

    def probabilities(self, x):
        found = self.features(x)
        return [found[:, :3].softmax(1), found[:, 3:5].softmax(1)]

    def sha256(self):
        return "ab" * 32
