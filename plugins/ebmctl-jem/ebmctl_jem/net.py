"""Classifiers that are energies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import Conv3x3, Downsample, ResidualBlock
from ebmctl.core.nets.precision import in_float32, lowered
from ebmctl.core.nets.second_derivatives import Swish
from ebmctl.errors import UsageError
from ebmctl_jem.config import ClassifierConfig


class ClassifierEnergy(EnergyNetwork):
    """An energy network made of class logits f(x): E(x, y) = -f(x)[y], and E(x) = -log sum_y exp f(x)[y].

    So p(y|x) is the softmax of the logits, and a label is optional.
    """

    label_optional = True

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, L) of images (B, C, H, W) in [0, 1]."""
        raise NotImplementedError

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, 1): E(x, y) for labels (B, L), one-hot; E(x) without any, or where all of a label is 0."""
        logits = self.logits(x)
        value = torch.logsumexp(logits, 1)
        if label is not None:
            value = torch.where(label.any(1), (logits * label).sum(1), value)
        return -value[:, None]


class ResidualClassifier(ClassifierEnergy):
    """A residual network; instance norm, as with batch norm the images of a batch would depend on one another.

    (The publication's network has no norm at all.)
    """

    def __init__(self, config: ClassifierConfig, channels: int, labels: int) -> None:
        super().__init__()
        if labels < 2:
            raise ValueError("the architecture 'jem' needs classes: give --label class")
        layers: list[nn.Module] = [Conv3x3(channels, config.width)]
        width = config.width
        for blocks, multiplier in zip(config.blocks, config.multipliers, strict=True):
            layers += [ResidualBlock(width, config.norm, 0, False) for _ in range(blocks)]
            layers.append(Downsample(width, config.width * multiplier))
            width = config.width * multiplier
        self.layers = nn.Sequential(*layers)
        self.swish = Swish()
        self.head = nn.Linear(width, labels)

    def logits(self, x: Tensor) -> Tensor:
        """Class logits (B, L) of images (B, C, H, W) in [0, 1]."""
        stem, *others = self.layers
        x = lowered(in_float32(stem, x))
        for layer in others:
            x = layer(x)
        return in_float32(lambda x: self.head(self.swish(x).mean((2, 3))), x)


def class_logits(network: EnergyNetwork, x: Tensor) -> Tensor:
    """Class logits (B, L), in the network's own precision and form; raises UsageError without classes."""
    if not isinstance(network.innermost, ClassifierEnergy):
        raise UsageError("the objective 'jem' needs a network with class logits: set network.name=\"jem\"")
    return network.evaluate("logits", x)
