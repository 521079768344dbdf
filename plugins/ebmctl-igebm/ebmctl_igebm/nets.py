"""The two networks."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import SpectralConv2d, modulate
from ebmctl.core.nets.precision import in_float32, lowered
from ebmctl_igebm.config import IgebmConfig, ShortRunConfig

SLOPE = 0.2  # of the leaky ReLU, in both


class Block(nn.Module):
    """A residual block of two 3x3 convolutions with spectral norm: (B, in, H, W) -> (B, out, H, W), or half of it."""

    def __init__(self, channels: int, out: int, labels: int, down: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = SpectralConv2d(channels, out), SpectralConv2d(out, out)
        self.skip = SpectralConv2d(channels, out) if channels != out else nn.Identity()
        self.label = nn.Linear(labels, 2 * out) if labels else None
        self.down = down

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W); label is (B, L) or None, and gives a gain and a bias."""
        h = F.leaky_relu(modulate(self.conv1(x), self.label, label), SLOPE)
        h = F.leaky_relu(self.skip(x) + self.conv2(h), SLOPE)
        return F.avg_pool2d(h, 2) if self.down else h


class Igebm(EnergyNetwork):
    """IGEBM's network: spectral norm in all 3x3 convolutions but the first, no other norm, the sum over all pixels."""

    def __init__(self, config: IgebmConfig, channels: int, labels: int = 0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, config.width, 3, padding=1)
        self.blocks = nn.ModuleList()
        width = config.width
        for multiplier, more in zip(config.multipliers, config.blocks, strict=True):
            out = config.width * multiplier
            self.blocks.append(Block(width, out, labels, down=True))
            self.blocks.extend(Block(out, out, labels, down=False) for _ in range(more))
            width = out
        self.head = nn.Linear(width, 1)

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, 1) of images (B, C, H, W) in [0, 1] and labels (B, L)."""
        x = F.leaky_relu(lowered(in_float32(self.stem, x)), SLOPE)
        for block in self.blocks:
            x = block(x, label)
        return in_float32(lambda x: self.head(x.sum((2, 3))), x)


class ShortRun(EnergyNetwork):
    """The Short-Run EBM's network: plain convolutions and leaky ReLUs. It takes no labels."""

    def __init__(self, config: ShortRunConfig, channels: int, labels: int = 0) -> None:
        super().__init__()
        if labels:
            raise ValueError("the architecture 'short-run' takes no labels; leave --label out")
        widths = [config.width * multiplier for multiplier in config.multipliers]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), nn.LeakyReLU(SLOPE)]
        for width, out in pairwise(widths):
            layers += [nn.Conv2d(width, out, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4))

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:  # noqa: ARG002  # it takes none
        """Energies (B, 1) of images (B, C, H, W) in [0, 1]; of larger ones the sum over what the last layer gives."""
        stem, *middle, last = self.layers
        x = lowered(in_float32(stem, x))
        for layer in middle:
            x = layer(x)
        return torch.flatten(in_float32(last, x), 1).sum(1, keepdim=True)
