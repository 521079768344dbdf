"""Random generators, and the noise from which chains and flows start."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on a device."""
    return torch.Generator(device=device).manual_seed(seed)


def uniform_noise(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Images (count, C, H, W), uniform in [0, 1], from which chains start."""
    return torch.rand((count, *shape), generator=generator, device=generator.device)


def gaussian_noise(count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Where a flow starts, (count, C, H, W): standard normal noise on [-1, 1], which is N(1/2, 1/4) on [0, 1]."""
    return torch.randn((count, *shape), generator=generator, device=generator.device) / 2 + 0.5
