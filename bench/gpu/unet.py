"""A U-Net energy of the size that Energy Matching is used with: what a new architecture would cost and gain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import Conv3x3, GroupNorm
from ebmctl.core.nets.precision import in_float32, widened
from ebmctl.core.nets.second_derivatives import Swish

SCALE = 1.1  # of the energy: images in [-1, 1] are about so far from noise


@dataclass(frozen=True)
class UNetConfig:
    """Its shape: channels of each stage in multiples of the width, residual blocks a stage, where attention is."""

    width: int = 96
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 2
    attention: int = 16
    groups: int = 32


def norm(channels: int, groups: int) -> nn.Module:
    return GroupNorm(min(groups, channels), channels)


class Block(nn.Module):
    """(B, in, H, W) -> (B, out, H, W): norm, SiLU, convolution, twice, added to the input."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(channels, groups), Conv3x3(channels, out)
        self.norm2, self.conv2 = norm(out, groups), Conv3x3(out, out)
        self.skip = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        self.silu = Swish()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(self.silu(self.norm1(x)))
        h = self.conv2(self.silu(self.norm2(h)))
        out: Tensor = self.skip(x) + h
        return out


class Attention(nn.Module):
    """Self-attention over the pixels, in matrix products: the fused kernels have no second derivative."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = norm(channels, groups)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, dim=1)  # (B, C, HW)
        weights = torch.softmax(q.transpose(1, 2) @ k / q.shape[1] ** 0.5, dim=-1)
        out: Tensor = x + self.out((v @ weights.transpose(1, 2)).view_as(x))
        return out


class Stage(nn.Module):
    """A block, and attention at its one size: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, config: UNetConfig, size: int, channels: int, out: int) -> None:
        super().__init__()
        self.block = Block(channels, out, config.groups)
        self.attention = Attention(out, config.groups) if size == config.attention else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attention(self.block(x))
        return out


class UNetEnergy(EnergyNetwork):
    """E(x) = 1.1 sqrt(D (||y - f(y)||^2 + 1)) with y = 2 x - 1, for D values an image and a U-Net f.

    Every map on the way down is put beside one on the way up, which has a block more at each size.
    """

    def __init__(self, config: UNetConfig, channels: int, size: int) -> None:
        super().__init__()
        widths = [config.width * m for m in config.multipliers]
        here, skips = widths[0], [widths[0]]
        self.stem, self.down, self.up = Conv3x3(channels, here), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            if level:
                self.down.append(nn.Sequential(nn.AvgPool2d(2), Conv3x3(here, here)))
                skips.append(here)
            for _ in range(config.blocks):
                self.down.append(Stage(config, size >> level, here, width))
                here = width
                skips.append(here)
        self.middle = nn.Sequential(Stage(config, config.attention, here, here), Block(here, here, config.groups))
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(config.blocks + 1):
                self.up.append(Stage(config, size >> level, here + skips.pop(), width))
                here = width
            if level:
                self.up.append(nn.Sequential(nn.Upsample(scale_factor=2), Conv3x3(here, here)))
        self.norm, self.out, self.silu = norm(here, config.groups), Conv3x3(here, channels), Swish()

    def denoised(self, y: Tensor) -> Tensor:
        """f(y), (B, C, H, W)."""
        h = in_float32(self.stem, y)
        skips = [h]
        for step in self.down:
            h = step(h)
            skips.append(h)
        h = self.middle(h)
        for step in self.up:
            h = step(torch.cat([h, skips.pop()], 1) if isinstance(step, Stage) else h)
        return in_float32(lambda h: self.out(self.silu(self.norm(h))), h)

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:  # noqa: ARG002  # it is unconditional
        """Energies (B, 1) of images (B, C, H, W) in [0, 1]."""
        y = 2 * x - 1
        squared = widened(y - self.denoised(y)).square().sum((1, 2, 3))
        energy: Tensor = SCALE * x[0].numel() ** 0.5 * (squared + 1).sqrt()
        return energy[:, None]
