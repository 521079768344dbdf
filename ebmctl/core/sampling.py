"""Algorithm 2: samples from noise, by rounds of augmentation and Langevin steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ebmctl.core.config import SampleConfig
from ebmctl.core.energy import Energy
from ebmctl.core.langevin import Sampler, run

Transition = Callable[[Tensor], Tensor]


def chain(
    energy: Energy, x: Tensor, sampler: Sampler, transition: Transition, config: SampleConfig
) -> Iterator[Tensor]:
    """Algorithm 2 from images x (B, C, H, W): yields the images after each round, the last being the samples."""
    for _ in range(config.rounds):
        x = run(sampler, energy, transition(x), config.steps)
        yield x
    if config.final_steps:
        yield run(sampler, energy, x, config.final_steps)
