"""An energy whose every gradient can be written down."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebmctl.core.energy import EnergyNetwork


class Quadratic(EnergyNetwork):
    """E(x) = k/2 |x - m|^2, with two scales that share it by halves."""

    def __init__(self, k: float, m: Tensor) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=m.dtype))
        self.m = nn.Parameter(m.clone())

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        energy = self.k / 2 * (x - self.m).flatten(1).square().sum(1)
        return torch.stack([energy / 2, energy / 2], dim=1)
