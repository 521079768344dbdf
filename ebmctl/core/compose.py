"""The algebra of energies (paper, section 3.4): concepts are combined only when an image is made.

With p(x) proportional to exp(-E(x)): a product of distributions is a sum of energies (AND), a mixture is their
log-sum-exp (OR), and a negated energy pushes away from a concept (NOT). The result is an energy again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ebmctl.core.energy import Energy, EnergyNetwork

NOT_WEIGHT = 0.001  # the authors' program
ROWS = 64  # of a network's batch: larger ones are no faster on a CPU


def conjunction(energies: Tensor) -> Tensor:
    """AND: the sum of energies (K, B), as (B,): the product of their distributions."""
    return energies.sum(0)


def disjunction(energies: Tensor, temperature: float) -> Tensor:
    """OR: -T log sum_i exp(-E_i / T) of energies (K, B), as (B,): the mixture of their distributions at T = 1."""
    return -temperature * torch.logsumexp(-energies / temperature, 0)


def negation(energy: Tensor, weight: float) -> Tensor:
    """NOT: -weight * E, of any shape: pushes away from a concept, and has no minimum of its own."""
    return -weight * energy


class Product:
    """AND: the weighted sum of energies, (B, C, H, W) -> (B,).

    With `shared` the part that the concepts have in common is counted once: sum w_i E_i - (sum w_i - 1) E. That is
    exact where the concepts are independent given that part, such as E(x given c_i) with the unconditional E(x).
    """

    def __init__(self, energies: Sequence[Energy], weights: Sequence[float] | None, shared: Energy | None) -> None:
        if not energies:
            raise ValueError("a product needs at least one energy")
        self.energies = tuple(energies)
        self.weights = (1.0,) * len(energies) if weights is None else tuple(weights)
        if len(self.weights) != len(self.energies):
            raise ValueError(f"{len(self.energies)} energies, but {len(self.weights)} weights")
        self.shared = shared

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        total = conjunction(torch.stack([w * energy(x) for w, energy in zip(self.weights, self.energies, strict=True)]))
        if self.shared is not None and (more := sum(self.weights) - 1):
            total = total - more * self.shared(x)
        return total


class Mixture:
    """OR: -T log sum_i exp(-E_i / T), (B, C, H, W) -> (B,); at T = 1 the sum of the unnormalised densities."""

    def __init__(self, energies: Sequence[Energy], temperature: float) -> None:
        if not energies:
            raise ValueError("a mixture needs at least one energy")
        if not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature}")
        self.energies, self.temperature = tuple(energies), temperature

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        return disjunction(torch.stack([energy(x) for energy in self.energies]), self.temperature)


def product(*energies: Energy, weights: Sequence[float] | None = None, shared: Energy | None = None) -> Energy:
    """AND of energies, each with a weight of 1 by default; see `Product`. Raises ValueError without any."""
    return Product(energies, weights, shared)


def mixture(*energies: Energy, temperature: float = 1.0) -> Energy:
    """OR of energies; see `Mixture`. Raises ValueError without any, or for a temperature that is not above 0."""
    return Mixture(energies, temperature)


def negate(energy: Energy, weight: float = NOT_WEIGHT) -> Energy:
    """NOT: -weight * E, for use in a product with other energies; alone it has no minimum."""
    return Product([energy], [-weight], None)


class EnergiesWithGradients:
    """The energies of a network under several labels, each computed together with its gradient, a few images at a time.

    Images (B, C, H, W) -> (M, B) for labels (M, L), or (1, B) without. Only the graph of one network and a few images
    is in memory at a time, not that of all networks and images of a composition. Differentiable once.
    """

    def __init__(self, network: EnergyNetwork, labels: Tensor | None, rows: int = ROWS) -> None:
        self.network, self.labels = network, labels
        self.images = max(1, rows // (1 if labels is None else len(labels)))

    def __call__(self, x: Tensor) -> Tensor:
        """The energies (M, B)."""
        if torch.is_grad_enabled() and x.requires_grad:
            energies: Tensor = _WithGradient.apply(x, self)
            return energies
        return torch.cat([self.evaluate(part)[0] for part in torch.split(x, self.images)], 1)

    def evaluate(self, x: Tensor, gradient: bool = False) -> tuple[Tensor, Tensor]:
        """The energies (M, B) of few images, and their gradients (M, B, C, H, W), or nothing for these."""
        count = 1 if self.labels is None else len(self.labels)
        many = x.detach().repeat(count, 1, 1, 1).requires_grad_(gradient)
        labels = None if self.labels is None else self.labels.repeat_interleave(len(x), 0)
        with torch.set_grad_enabled(gradient):
            energies = self.network(many, labels)
            gradients = torch.autograd.grad(energies.sum(), many)[0] if gradient else many[:0]
        return energies.detach().view(count, len(x)), gradients.view(-1, *x.shape)


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, energies: EnergiesWithGradients) -> Tensor:
        found = [energies.evaluate(part, gradient=True) for part in torch.split(x, energies.images)]
        ctx.save_for_backward(torch.cat([gradients for _, gradients in found], 1))
        return torch.cat([values for values, _ in found], 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return (upstream[:, :, None, None, None] * gradients).sum(0), None
