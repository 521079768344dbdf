"""Images drawn from an energy by a plan."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch
from torch import Tensor

from ebmctl.config import registry
from ebmctl.config.plan import SamplingPlan
from ebmctl.core.energy import Energy
from ebmctl.core.langevin import Reporting, Sampler
from ebmctl.core.noise import gaussian_noise, uniform_noise
from ebmctl.core.sampling import Augmentation, Moment, chain
from ebmctl.errors import UsageError
from ebmctl.models.memory import in_rows

BATCH = 512  # chains that share random numbers: always so many, that a seed gives the same images on any machine


def batches(n: int) -> Iterator[int]:
    """The sizes of the batches in which n images are drawn, one after the other by the same generator.

    Raises UsageError for n under 1.
    """
    _check(n)
    return (min(BATCH, n - low) for low in range(0, n, BATCH))


def start_noise(plan: SamplingPlan, n: int, generator: torch.Generator) -> Tensor:
    """Where n chains start, (n, C, H, W): Gaussian noise for a flow, else uniform noise."""
    return (gaussian_noise if plan.flow.steps else uniform_noise)(n, plan.shape, generator)


def make_parts(plan: SamplingPlan, generator: torch.Generator) -> tuple[Sampler, Augmentation]:
    """A plan's sampler and augmentation: what Algorithm 2 alternates."""
    sampler: Sampler = registry.find("sampler", plan.sampler.name).make(plan.sampler.options, generator)
    augmentation: Augmentation = registry.find("augmentation", plan.augment.name).make(plan.augment.options, generator)
    return sampler, augmentation


def moments(energy: Energy, plan: SamplingPlan, n: int, generator: torch.Generator) -> Iterator[Moment]:
    """All that happens to n chains on their way from noise to images, step by step of the flow and round by round."""
    sampler, augmentation = make_parts(plan, generator)
    yield from chain(energy, start_noise(plan, n, generator), plan.flow, plan.rounds, sampler, augmentation, generator)


def draw(
    energy: Energy, plan: SamplingPlan, n: int, generator: torch.Generator
) -> Generator[Tensor, None, dict[str, float]]:
    """Chains of any energy by a plan, (n, C, H, W) in [0, 1]: `plan.frames` pictures, the last being the samples.

    They are shown as noise, on some steps of the flow, and after each round. Returns what the sampler reports of its
    steps (see `core.langevin.Reporting`). So many chains at a time go through the energy as fit the memory. Raises
    UsageError for n under 1.
    """
    _check(n)
    energy = in_rows(energy, n, plan.shape, generator.device)
    sampler, augmentation = make_parts(plan, generator)
    x = start_noise(plan, n, generator)
    for moment in chain(energy, x, plan.flow, plan.rounds, sampler, augmentation, generator):
        if moment.after == "augmentation" or (moment.after == "flow" and moment.number not in plan.shown_steps):
            continue
        yield moment.images
    found = sampler.report() if isinstance(sampler, Reporting) else {}
    return {name: float(value) for name, value in found.items()}


def _check(n: int) -> None:
    if n < 1:
        raise UsageError(f"the number of samples must be at least 1, not {n}")
