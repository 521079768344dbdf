"""Langevin dynamics, the sampler of Algorithms 1 and 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ebmctl.core.config import LangevinConfig
from ebmctl.core.energy import Energy, energy_gradient


class Sampler(Protocol):
    """Moves images towards the distribution of an energy, a step at a time.

    `differentiable` says whether `step(create_graph=True)` keeps the graph to the energy's parameters (the KL loss
    needs it). `generator` is where all of its randomness comes from.
    """

    generator: torch.Generator
    differentiable: bool

    def step(self, energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """One step from images (B, C, H, W) in [0, 1] to images of the same shape and range."""


@runtime_checkable
class Reporting(Protocol):
    """A sampler that reports metrics of its steps, which `ebmctl sample` shows and a run logs."""

    def report(self) -> Mapping[str, float | Tensor]:
        """Metrics by name, such as the acceptance rate, of the steps since the last call.

        A tensor without dimensions may stay on its device: a run reads it later, with the step's other metrics.
        """


@runtime_checkable
class HasStepSize(Protocol):
    """What a sampler's settings may have: the size of its step down the gradient."""

    step_size: float


class Langevin:
    """x <- clamp(y - step_size * grad E(y)) with y = x + noise * N(0, 1), clamped to [0, 1].

    Paper, Algorithm 1, with the noise added before the gradient is taken and the clamping, as its authors do.
    Differentiable: with `create_graph` a step depends on the energy's parameters through grad E (Equation 7).
    """

    differentiable = True

    def __init__(self, config: LangevinConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator

    def step(self, energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """One step from images (B, C, H, W) to images of that shape."""
        noise = torch.randn(x.shape, generator=self.generator, device=x.device, dtype=x.dtype)
        y = torch.add(x, noise, alpha=self.config.noise)
        moved = torch.add(y, energy_gradient(energy, y, create_graph=create_graph), alpha=-self.config.step_size)
        return moved.clamp(0, 1) if self.config.clamp else moved


def run(sampler: Sampler, energy: Energy, x: Tensor, steps: int) -> Tensor:
    """Take `steps` steps without keeping any graph."""
    for _ in range(steps):
        x = sampler.step(energy, x.detach()).detach()
    return x
