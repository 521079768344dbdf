"""The energies that labels add to an image's own, by a small classifier."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebmctl.core.config import HEAD_GROUPS
from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.blocks import Conv3x3, GroupNorm
from ebmctl.core.nets.precision import in_float32, widened
from ebmctl.core.nets.second_derivatives import Swish

SCALE = 1 / 16  # of energies to logits: the temperature at the data, so that a head learns at the pace of a classifier
STAGES = (1, 2, 2, 2)  # widths, relative to the first one's; each stage at half the size of the one before


class LabelHead(EnergyNetwork):
    """What a label adds to the energy of an image.

    E(x given c) = E(x) + h_c(x), so that -h is a classifier's logits. Shapes of few pixels, such as an outline that
    waves, are found by maximum pooling within a hundred steps, and far later by average pooling. At first all are 0.
    """

    def __init__(self, channels: int, width: int, labels: int) -> None:
        super().__init__()
        widths = [width * stage for stage in STAGES]
        into = zip([channels, *widths], widths, strict=False)
        self.convs = nn.ModuleList(conv for old, new in into for conv in (Conv3x3(old, new), Conv3x3(new, new)))
        self.norms = nn.ModuleList(GroupNorm(HEAD_GROUPS, new) for new in widths for _ in range(2))
        self.out = nn.Linear(widths[-1], labels)
        self.swish = Swish()
        self.ignore_label()

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, 1) of images (B, C, H, W) under one-hot labels (B, L); 0 without a label."""
        if label is None:
            return x.new_zeros(len(x), 1)
        return (self.energies(x) * label).sum(1, keepdim=True)

    def energies(self, x: Tensor) -> Tensor:
        """The energies (B, L) of images (B, C, H, W) under every label."""
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if index and index % 2 == 0:
                x = F.max_pool2d(x, 2, ceil_mode=True)
            x = self.swish(norm(conv(x)))
        return SCALE * widened(in_float32(lambda x: self.out(x.mean((2, 3))), x))

    @torch.no_grad()
    def ignore_label(self) -> None:
        """Give every label the energy 0."""
        self.out.weight.zero_()
        self.out.bias.zero_()
