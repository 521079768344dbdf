"""Algorithm 2: samples from noise, by rounds of augmentation and Langevin steps, after a flow where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ebmctl.core.config import FlowConfig, SampleConfig
from ebmctl.core.energy import Energy
from ebmctl.core.flow import flow
from ebmctl.core.langevin import Sampler, run

Augmentation = Callable[[Tensor], Tensor]
"""From images (B, C, H, W) in [0, 1] to such images: what happens to chains between rounds of sampler steps."""


class Moment(NamedTuple):
    """Chains (B, C, H, W) in [0, 1] after the `number`-th step of the flow, augmentation, or round of sampler steps."""

    after: Literal["noise", "flow", "augmentation", "round", "final steps"]
    number: int
    images: Tensor


def chain(
    energy: Energy,
    x: Tensor,
    path: FlowConfig,
    rounds: SampleConfig,
    sampler: Sampler,
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Iterator[Moment]:
    """Chains from noise x (B, C, H, W): the flow, if it has steps, then Algorithm 2; the last moment is the samples."""
    yield Moment("noise", 0, x.clamp(0, 1))
    for step, moved in enumerate(flow(energy, x, path, generator), start=1):
        x = moved
        yield Moment("flow", step, x.clamp(0, 1))
    x = x.clamp(0, 1)
    for number in range(1, rounds.rounds + 1):
        x = augmentation(x)
        yield Moment("augmentation", number, x)
        x = run(sampler, energy, x, rounds.steps)
        yield Moment("round", number, x)
    if rounds.final_steps:
        yield Moment("final steps", rounds.final_steps, run(sampler, energy, x, rounds.final_steps))
