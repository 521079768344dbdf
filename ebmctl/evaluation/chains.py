"""What chains do: over time, from one start, and where they end without noise (the paper's Figures 5, 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ebmctl.core.energy import Conditioned, energy_gradient, frozen
from ebmctl.core.flow import flow
from ebmctl.core.langevin import run
from ebmctl.core.noise import gaussian_noise, seeded, uniform_noise
from ebmctl.errors import EbmctlError
from ebmctl.models.model import Model, chain_parts

FLOW_SHOWN, ROUNDS_SHOWN = 6, 6


class NotDrawnError(EbmctlError):
    """A figure that makes no sense for this model; the others do."""


class Moment(NamedTuple):
    """Chains (B, C, H, W) in [0, 1] at one time, and what was just done."""

    what: str
    images: Tensor


class Chains:
    """A model's chains by its own recipe."""

    def __init__(self, model: Model, label: str | None, seed: int) -> None:
        self.model, self.label, self.recipe = model, label, model.recipe
        self.network = frozen(model.network)
        self.generator = seeded(seed, next(model.network.parameters()).device)
        self.kernel, self.transition = chain_parts(self.recipe, self.generator)

    def energy(self, count: int) -> Conditioned:
        """The energy for `count` images."""
        return Conditioned(self.network, self.model.one_hot(self.label, count, self.generator.device))

    def noise(self, count: int) -> Tensor:
        """Where chains start, (count, C, H, W)."""
        return (gaussian_noise if self.recipe.flow.steps else uniform_noise)(count, self.model.shape, self.generator)

    def moments(self, count: int) -> Iterator[Moment]:
        """Chains from noise on: some of the flow, then of some rounds what augmentation and the steps make of them."""
        x, energy, plan = self.noise(count), self.energy(count), self.recipe.sampling
        yield Moment("noise", x.clamp(0, 1))
        shown = _some(self.recipe.flow.steps, FLOW_SHOWN)
        for step, moved in enumerate(flow(energy, x, self.recipe.flow, self.generator), start=1):
            x = moved
            if step in shown:
                yield Moment(f"flow {step}", x.clamp(0, 1))
        x, shown = x.clamp(0, 1), _some(plan.rounds, ROUNDS_SHOWN)
        for index in range(1, plan.rounds + 1):
            augmented = self.transition(x)
            x = run(self.kernel, energy, augmented, plan.steps)
            if index in shown:
                yield Moment(f"augmented {index}", augmented)
                yield Moment(f"{plan.steps} steps", x)
        if plan.final_steps:
            yield Moment(f"{plan.final_steps} more", run(self.kernel, energy, x, plan.final_steps))

    def from_one_start(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """One noise image (1, C, H, W), and what `count` chains from it become with and without augmentation.

        Raises NotDrawnError where the recipe has no augmentation.
        """
        plan = self.recipe.sampling
        if not plan.rounds or not getattr(self.recipe.augment.options, "enabled", True):
            raise NotDrawnError("the model's recipe samples without augmentation")
        start = self.noise(1).clamp(0, 1)
        energy, with_, without = self.energy(count), start.repeat(count, 1, 1, 1), start.repeat(count, 1, 1, 1)
        for _ in range(plan.rounds):
            with_ = run(self.kernel, energy, self.transition(with_), plan.steps)
            without = run(self.kernel, energy, without, plan.steps)
        with_, without = (run(self.kernel, energy, x, plan.final_steps) for x in (with_, without))
        return start, with_, without

    def descent(self, x: Tensor, steps: int) -> Tensor:
        """Images (B, C, H, W) after steps down the energy's gradient without noise, of the recipe's own size.

        Raises NotDrawnError for a sampler that has no step size.
        """
        plan = self.recipe
        size = plan.flow.time / plan.flow.steps if plan.flow.steps else getattr(plan.sampler.options, "step_size", None)
        if size is None:
            raise NotDrawnError(f"the sampler {plan.sampler.name} has no step size")
        energy = self.energy(len(x))
        for _ in range(steps):
            x = (x - size * energy_gradient(energy, x)).clamp(0, 1)
        return x.detach()


def spread(images: Tensor) -> float:
    """The mean distance of images (B, C, H, W) from one another, per pixel value (root mean square)."""
    rows = images.flatten(1)
    return float(torch.pdist(rows).mean() / rows.shape[1] ** 0.5)


def _some(total: int, shown: int) -> set[int]:
    """Up to `shown` of the numbers 1 to `total`, evenly spread, the last among them."""
    return {round(total * part / shown) for part in range(1, shown + 1)} - {0}
