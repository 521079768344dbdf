"""The settings, each checked where it is made. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IgebmConfig:
    """Stage i is a residual block to `width * multipliers[i]` channels and half the size, then `blocks[i]` more."""

    width: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: tuple[int, ...] = (2, 2, 2)

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.multipliers, default=0) < 1 or min(self.blocks, default=-1) < 0:
            raise ValueError("width and multipliers are at least 1, blocks 0 or more")
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"blocks has {len(self.blocks)} stages and multipliers {len(self.multipliers)}")


@dataclass(frozen=True)
class ShortRunConfig:
    """Channels are `width * multipliers[i]`: a 3x3 convolution, then 4x4 ones that each halve the size.

    A last 4x4 convolution without padding gives the energy, so that the size is at least 4 by then.
    """

    width: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.multipliers, default=0) < 1:
            raise ValueError("width and multipliers are at least 1")


@dataclass(frozen=True)
class ClippedConfig:
    """The step's size, its noise, and the bound of each component of the gradient (0: none)."""

    step_size: float = 10.0
    noise: float = 0.005
    clip: float = 0.01

    def __post_init__(self) -> None:
        if min(self.step_size, self.noise, self.clip) < 0:
            raise ValueError("step_size, noise and clip are 0 or more")
