"""The denoising energy network: how far an image is from its own denoised version."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebmctl.core.config import DenoisingConfig
from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import Conv3x3, ResidualBlock
from ebmctl.core.nets.label_head import LabelHead
from ebmctl.core.nets.precision import in_float32, widened
from ebmctl.core.nets.second_derivatives import Swish


class DenoisingEnergy(EnergyNetwork):
    """E(x) = scale * sqrt(D (||x - f(x)||^2 + tip)), for D values an image and a small U-Net f.

    With labels f's blocks are conditional, or a `LabelHead` adds an energy of its own.

    Salimans and Ho, "Should EBMs model the energy or the score?" (2021), take the squared distance, the shape of a
    denoiser's energy. Here it is the distance: Energy Matching asks for a gradient that is as long near the data as
    far from it, which is the gradient of a cone, and the paper's network has to make its cone of smooth parts.
    """

    def __init__(self, config: DenoisingConfig, channels: int, labels: int = 0) -> None:
        super().__init__()

        def block(width: int) -> ResidualBlock:
            return ResidualBlock(width, config.norm, 0 if config.label_head else labels, spectral=False)

        *above, bottom = widths = config.widths
        self.stem = Conv3x3(channels, widths[0])
        self.before = nn.ModuleList(map(block, above))
        self.shrink = nn.ModuleList(map(Conv3x3, widths, widths[1:]))
        self.middle = nn.ModuleList(block(bottom) for _ in range(config.middle))
        self.grow = nn.ModuleList(map(Conv3x3, widths[1:], widths))
        self.after = nn.ModuleList(map(block, above))
        self.out = Conv3x3(widths[0], channels)
        self.swish = Swish()
        self.head = LabelHead(channels, config.label_head, labels) if labels and config.label_head else None
        self.tip = config.tip
        self.scale = nn.Parameter(torch.tensor(config.scale))
        with torch.no_grad():  # at first every image's denoised version is grey
            self.out.weight.zero_()
            assert self.out.bias is not None
            self.out.bias.fill_(0.5)

    def denoised(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """f(x), (B, C, H, W)."""
        h: Tensor = self.swish(in_float32(self.stem, x))
        skips: list[Tensor] = []
        for block, shrink in zip(self.before, self.shrink, strict=True):
            h = block(h, label)
            skips.append(h)
            h = self.swish(F.avg_pool2d(shrink(h), 2))
        for block in self.middle:
            h = block(h, label)
        for block, grow, skip in reversed(list(zip(self.after, self.grow, skips, strict=True))):
            h = block(skip + F.interpolate(grow(self.swish(h)), skip.shape[-2:]), label)
        return in_float32(lambda h: self.out(self.swish(h)), h)

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, 1) of images (B, C, H, W), with one-hot labels (B, L) where the network is conditional."""
        squared = widened(x - self.denoised(x, label)).square().sum((1, 2, 3))
        energy: Tensor = self.scale * x[0].numel() ** 0.5 * (squared + self.tip).sqrt()
        if self.head is not None and label is not None:
            energy = energy + self.head(x, label)
        return energy[:, None]

    def label_energies(self, x: Tensor, count: int) -> Tensor:
        """Of every label (B, L): E(x given c), or what a head adds to E(x), which alone depends on the label."""
        return super().label_energies(x, count) if self.head is None else self.head.energies(x)

    def label_part(self) -> EnergyNetwork | None:
        """The head; see `EnergyNetwork.label_part`."""
        return self.head

    def ignore_labels(self) -> None:
        """Make every label's gain 1, and its bias or energy 0."""
        for module in self.modules():
            if isinstance(module, (ResidualBlock, LabelHead)):
                module.ignore_label()
