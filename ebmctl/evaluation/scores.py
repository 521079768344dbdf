"""Outlier scores of images under an energy: high for what looks unlike the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ebmctl.core.energy import Conditioned, energy_gradient

Score = Callable[[Conditioned, Tensor], Tensor]


def energy(model: Conditioned, x: Tensor) -> Tensor:
    """The energy (B,) of images (B, C, H, W), averaged over the scales, as the paper's authors score (Table 3)."""
    with torch.no_grad():
        return model.terms(x).mean(1)


def scale(index: int) -> Score:
    """The energy of one scale alone, the full scale being 0."""

    def score(model: Conditioned, x: Tensor) -> Tensor:
        with torch.no_grad():
            return model.terms(x)[:, index]

    return score


def typicality(mean: float) -> Score:
    """How far `energy` is from its mean over the training images (Nalisnick et al. 2019)."""

    def score(model: Conditioned, x: Tensor) -> Tensor:
        return (energy(model, x) - mean).abs()

    return score


def gradient(model: Conditioned, x: Tensor) -> Tensor:
    """The norm of the energy's gradient to the image: minus the approximate mass of JEM (Grathwohl et al. 2019)."""
    norm: Tensor = torch.linalg.vector_norm(energy_gradient(model, x).flatten(1), dim=1)
    return norm


def scored(score: Score, energy: Conditioned, batches: Iterable[Tensor]) -> Tensor:
    """The scores (N,), on the CPU, of batches of images (B, C, H, W) in [0, 1], on the energy's device, that fit it."""
    return torch.cat([score(energy, x).cpu() for x in batches]).double()
