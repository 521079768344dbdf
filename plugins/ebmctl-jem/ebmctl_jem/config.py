"""The settings, each checked where it is made. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from ebmctl.core.config import CDConfig, Norm


@dataclass(frozen=True)
class ClassifierConfig:
    """Stage i is `blocks[i]` residual blocks and a step down to `width * multipliers[i]` channels and half the size."""

    width: int = 64
    blocks: tuple[int, ...] = (2, 2, 2)
    multipliers: tuple[int, ...] = (2, 4, 4)
    norm: Norm = "auto"

    def __post_init__(self) -> None:
        if self.width < 1 or min(self.multipliers, default=0) < 1 or min(self.blocks, default=-1) < 0:
            raise ValueError("width and multipliers are at least 1, blocks 0 or more")
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"blocks has {len(self.blocks)} stages and multipliers {len(self.multipliers)}")


@dataclass(frozen=True)
class JemConfig(CDConfig):
    """The chains and losses of contrastive divergence, and the weight of the classification loss."""

    steps: int = 20
    noise_probability: float = 0.05
    energy_regularizer: float = 0.0
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_weight < 0:
            raise ValueError(f"class_weight is 0 or more, not {self.class_weight}")
