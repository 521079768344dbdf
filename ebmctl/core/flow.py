"""The gradient flow of an energy: from Gaussian noise to images, warming up near them (Energy Matching)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ebmctl.core.config import FlowConfig
from ebmctl.core.energy import Energy, energy_gradient


def temperature(time: float, config: FlowConfig) -> float:
    """The temperature at a time of the flow: 0 up to the cutoff, then linear up to its maximum at time 1."""
    if time < config.cutoff:
        return 0.0
    if time >= 1:
        return config.temperature
    return config.temperature * (time - config.cutoff) / (1 - config.cutoff)


def flow(
    energy: Energy, x: Tensor, config: FlowConfig, generator: torch.Generator, start: float = 0.0
) -> Iterator[Tensor]:
    """Follow dx = -grad E(x) dt + sqrt(2 T(t)) dW from images x (B, C, H, W); yields the images after each step.

    A step of `time / steps` is an Euler-Maruyama step, or by Heun's method the mean of the gradients at both of its
    ends. `start` is the time at which x stands. Nothing is clamped: a flow comes from outside of [0, 1].
    """
    dt = config.time / max(config.steps, 1)
    for step in range(config.steps):
        noise = (2 * dt * temperature(start + step * dt, config)) ** 0.5
        gradient = energy_gradient(energy, x)
        moved = x - dt * gradient
        if config.method == "heun":
            moved = x - dt / 2 * (gradient + energy_gradient(energy, moved))
        if noise:
            moved += noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = moved
        yield x
