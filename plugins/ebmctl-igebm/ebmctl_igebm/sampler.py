"""Langevin dynamics with clipped gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmctl.core.energy import Energy, energy_gradient
from ebmctl_igebm.config import ClippedConfig


class ClippedLangevin:
    """x <- clamp(y - step_size * clip(grad E(y))), y = x + noise * N(0, 1), in [0, 1].

    Each component of the gradient is clipped to [-clip, clip], as IGEBM's program does (`proj_norm`): a step moves no
    pixel by more than step_size * clip. It knows no gradient to the parameters, as there is no KL loss.
    """

    differentiable = False

    def __init__(self, config: ClippedConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator

    def step(self, energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """One step from images (B, C, H, W) in [0, 1] to images of that shape and range."""
        if create_graph:
            raise ValueError("clipped-langevin is not differentiable")
        noise = torch.randn(x.shape, generator=self.generator, device=x.device, dtype=x.dtype)
        y = torch.add(x, noise, alpha=self.config.noise)
        gradient = energy_gradient(energy, y)
        if self.config.clip:
            gradient = gradient.clamp(-self.config.clip, self.config.clip)
        return torch.add(y, gradient, alpha=-self.config.step_size).clamp(0, 1)
