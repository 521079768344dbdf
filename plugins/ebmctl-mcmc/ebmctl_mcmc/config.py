"""The samplers' settings, each checked where it is made. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MalaConfig:
    """Langevin steps of `step_size` at a `temperature`, each accepted or not; `bounded` to [0, 1] or on all numbers.

    The noise has a standard deviation of sqrt(2 step_size temperature).
    """

    step_size: float = 1e-4
    temperature: float = 1.0
    bounded: bool = True

    def __post_init__(self) -> None:
        if not self.step_size > 0 or not self.temperature > 0:
            raise ValueError("step_size and temperature are above 0")


@dataclass(frozen=True)
class HmcConfig:
    """Trajectories of `leapfrog` steps of `step_size` (a time) at a `temperature`, each accepted or not.

    `bounded`: images stay in [0, 1], at whose walls trajectories are reflected.
    """

    step_size: float = 0.01
    leapfrog: int = 10
    temperature: float = 1.0
    bounded: bool = True

    def __post_init__(self) -> None:
        if not self.step_size > 0 or not self.temperature > 0 or self.leapfrog < 1:
            raise ValueError("step_size and temperature are above 0, leapfrog is at least 1")
