"""Hamiltonian dynamics of H(x, v) = E(x) / T + |v|^2 / 2, and steps that leave exp(-E(x) / T) as it is (Neal 2011)."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmctl.core.energy import Energy, energy_gradient


def trajectory(
    energy: Energy,
    x: Tensor,
    velocity: Tensor,
    *,
    step_size: float,
    leapfrog: int,
    temperature: float = 1.0,
    bounded: bool = True,
    create_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """`leapfrog` steps from images and velocities (B, C, H, W); with the velocity reversed it returns to its start.

    `bounded` trajectories are reflected at the walls of [0, 1]: free motion in a box keeps volume and can be
    reversed, so that acceptance by `metropolis` is exact there, too.
    """
    half = step_size / (2 * temperature)
    velocity = velocity - half * energy_gradient(energy, x, create_graph=create_graph)
    for index in range(leapfrog):
        x = x + step_size * velocity
        if bounded:
            x, velocity = reflect(x, velocity)
        last = index + 1 == leapfrog
        gradient = energy_gradient(energy, x, create_graph=create_graph and not last)  # x no longer depends on it
        velocity = velocity - (half if last else 2 * half) * gradient
    return x, velocity


def reflect(x: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """Bring images that left [0, 1] back as mirrors at 0 and 1 would, with the velocity reversed at each reflection."""
    folded = x.remainder(2)  # mirrors at both ends have a period of 2
    turned = folded > 1
    return torch.where(turned, 2 - folded, folded), torch.where(turned, -velocity, velocity)


def hamiltonian(energy: Energy, x: Tensor, velocity: Tensor, temperature: float = 1.0) -> Tensor:
    """E(x) / T + |v|^2 / 2, (B,)."""
    return energy(x) / temperature + velocity.flatten(1).square().sum(1) / 2


@torch.no_grad()
def metropolis(change: Tensor, generator: torch.Generator) -> Tensor:
    """Which ends (B,) are accepted: with probability min(1, exp(-change of H)); none whose energy is NaN."""
    uniform = torch.rand(change.shape, generator=generator, device=change.device, dtype=change.dtype)
    return uniform.log() < -change


def hmc_step(
    energy: Energy, x: Tensor, generator: torch.Generator, *, step_size: float, leapfrog: int, bounded: bool
) -> tuple[Tensor, Tensor]:
    """One trajectory from fresh velocities at temperature 1: the images (B, C, H, W), and which were accepted (B,)."""
    velocity = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    end, turned = trajectory(energy, x, velocity, step_size=step_size, leapfrog=leapfrog, bounded=bounded)
    with torch.no_grad():
        change = hamiltonian(energy, end, turned) - hamiltonian(energy, x, velocity)
    accepted = metropolis(change, generator)
    return torch.where(accepted.view(-1, *[1] * (x.ndim - 1)), end, x).detach(), accepted
