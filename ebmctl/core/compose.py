"""The algebra of energies (paper, section 3.4): concepts are combined only when an image is made.

With p(x) proportional to exp(-E(x)): a product of distributions is a sum of energies (AND), a mixture is their
log-sum-exp (OR), and a negated energy pushes away from a concept (NOT). What comes out is an energy again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ebmctl.core.energy import Energy

NOT_WEIGHT = 0.001  # the authors' program


class Product:
    """AND: the weighted sum of energies, (B, C, H, W) -> (B,).

    With `shared` the part that the concepts have in common is counted once: sum w_i E_i - (sum w_i - 1) E. That is
    exact where the concepts are independent given that part, such as E(x given c_i) with the unconditional E(x).
    """

    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None, shared: Energy | None) -> None:
        if not energies:
            raise ValueError("a product has at least one energy")
        self.energies = tuple(energies)
        self.weights = (1.0,) * len(energies) if weights is None else tuple(weights)
        if len(self.weights) != len(self.energies):
            raise ValueError(f"{len(self.energies)} energies have {len(self.weights)} weights")
        self.shared = shared

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        total = sum(weight * energy(x) for weight, energy in zip(self.weights, self.energies, strict=True))
        assert isinstance(total, Tensor)
        if self.shared is not None and (more := sum(self.weights) - 1):
            total = total - more * self.shared(x)
        return total


class Mixture:
    """OR: -T log sum_i exp(-E_i / T), (B, C, H, W) -> (B,); at T = 1 the sum of the unnormalised densities."""

    def __init__(self, energies: Sequence[Energy], temperature: float) -> None:
        if not energies:
            raise ValueError("a mixture has at least one energy")
        if not temperature > 0:
            raise ValueError(f"temperature is above 0, not {temperature}")
        self.energies, self.temperature = tuple(energies), temperature

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        return mixed(torch.stack([energy(x) for energy in self.energies]), self.temperature)


def mixed(energies: Tensor, temperature: float) -> Tensor:
    """-T log sum_i exp(-E_i / T) of energies (K, B), as (B,)."""
    return -temperature * torch.logsumexp(-energies / temperature, 0)


def product(*energies: Energy, weights: Sequence[float] | None = None, shared: Energy | None = None) -> Energy:
    """AND of energies, each with a weight of 1 unless told; see `Product`. Raises ValueError without any."""
    return Product(energies, weights, shared)


def mixture(*energies: Energy, temperature: float = 1.0) -> Energy:
    """OR of energies; see `Mixture`. Raises ValueError without any, or for a temperature that is not above 0."""
    return Mixture(energies, temperature)


def negate(energy: Energy, weight: float = NOT_WEIGHT) -> Energy:
    """NOT: -weight * E, for use in a product with other energies; alone it has no lowest point."""
    return Product([energy], [-weight], None)
