"""The residual energy network: one class for Tables 5 and 6, MNIST, and the small networks that run on a laptop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebmctl.core.config import ResidualConfig
from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import Conv3x3, Downsample, ResidualBlock, SelfAttention, halve
from ebmctl.core.nets.precision import in_float32, lowered
from ebmctl.core.nets.second_derivatives import Swish


class Tower(nn.Module):
    """The energy of one scale: (B, C, H, W) -> (B,)."""

    def __init__(self, config: ResidualConfig, channels: int, labels: int, scale: int) -> None:
        super().__init__()
        stages, attention, width = len(config.blocks) - scale, config.attention, config.width
        norm, spectral = config.norm, config.spectral_norm
        if scale:
            attention = 0
            if config.coarse_width:
                width, norm, spectral = config.coarse_width, "auto", False
        self.stem = Conv3x3(channels, width)
        self.layers = nn.ModuleList()
        for stage in range(stages):
            for _ in range(config.blocks[stage] + 1):
                self.layers.append(ResidualBlock(width, norm, labels, spectral))
            out = config.width * config.multipliers[stage]
            self.layers.append(Downsample(width, out))
            width = out
            if stage + 1 == attention:
                self.layers.append(SelfAttention(width))
        self.swish = Swish()
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energy of images (B, C, H, W), with one-hot labels (B, L) where the network is conditional."""
        x = self.swish(lowered(in_float32(self.stem, x)))
        for layer in self.layers:
            x = layer(x, label) if isinstance(layer, ResidualBlock) else layer(x)
        return in_float32(self._last, x)

    def _last(self, x: Tensor) -> Tensor:
        pooled = self.swish(x).mean((2, 3))  # (B, width)
        energy: Tensor = self.head(pooled)
        return energy.squeeze(1)


class ResidualEnergy(EnergyNetwork):
    """A sum of energies of the image at several scales (paper, section 2.4 and appendix B.1)."""

    def __init__(self, config: ResidualConfig, channels: int, labels: int = 0) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Tower(config, channels, labels, scale) for scale in range(config.scales))

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, S) of images (B, C, H, W) in [0, 1], the full scale first."""
        energies = []
        for scale, tower in enumerate(self.scales):
            x = halve(x) if scale else x
            energies.append(tower(x, label))
        return torch.stack(energies, dim=1)

    def ignore_labels(self) -> None:
        """Make every label's gain 1 and its bias 0."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.ignore_label()
