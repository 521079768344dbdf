"""Building blocks of the residual energy network (paper, appendix B.1; details as the authors built them)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from ebmctl.core.config import Norm
from ebmctl.core.nets.precision import autocast_off, in_float32
from ebmctl.core.nets.second_derivatives import Swish, conv3x3


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1: (B, in, H, W) -> (B, out, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(channels, out, 3, padding=1)

    def effective_weight(self) -> Tensor:
        """The weight that the convolution uses, (out, in, 3, 3)."""
        return self.weight

    def forward(self, input: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W)."""
        with autocast_off(input):  # a spectral norm's matrix products too are better in float32
            weight = self.effective_weight()
        return conv3x3(input, weight, self.bias)


class WeightStandardizedConv2d(Conv3x3):
    """A convolution whose filters have mean 0 and standard deviation 1 (Qiao et al., 2019).

    Every filter is divided by its sample standard deviation (n - 1) plus 1e-5.
    """

    def effective_weight(self) -> Tensor:
        """The standardised weight, (out, in, 3, 3)."""
        filters = self.weight.flatten(1)
        centered = filters - filters.mean(1, keepdim=True)
        # not std(): with its Welford pass it takes twice as long, forward and backward
        std: Tensor = torch.linalg.vector_norm(centered, dim=1, keepdim=True) / (filters.shape[1] - 1) ** 0.5
        return (centered * (1 / (std + 1e-5))).view_as(self.weight)

    def folded(self) -> nn.Conv2d:
        """The same map with the standardised weight as a plain, fixed one."""
        return fixed_conv(self.effective_weight(), self.bias)


class SpectralConv2d(nn.Module):
    """A 3x3 convolution whose weight has spectral norm 1 (Miyato et al., 2018), as IGEBM uses it."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, out)
        parametrizations.spectral_norm(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W); while training, each call refines the estimate of the norm."""
        out: Tensor = self.conv(x)
        return out

    def folded(self) -> nn.Conv2d:
        """The same map with the normalised weight as a plain, fixed one."""
        return fixed_conv(self.conv.weight, self.conv.bias)


def fixed_conv(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A plain 3x3 convolution with a weight (out, in, 3, 3) that has no history."""
    out, channels = weight.shape[:2]
    plain = nn.Conv2d(channels, out, 3, padding=1, device="meta")
    plain.weight = nn.Parameter(weight.detach())
    plain.bias = None if bias is None else nn.Parameter(bias.detach())
    return plain


class GroupNorm(nn.GroupNorm):
    """A group norm that is float32 under autocast on every device; by itself autocast does so on a GPU only."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return in_float32(super().forward, input)


def normalization(kind: Norm, channels: int) -> nn.Module:
    """The norm of a residual block: "auto" is instance norm up to 128 channels, above it group norm of 32 groups.

    Instance norm with an affine map is written as a group norm with one channel a group, which runs faster.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "auto":
        kind = "instance" if channels <= 128 else "group"
    if kind == "instance":
        return GroupNorm(channels, channels)
    if channels % 32:
        raise ValueError(f"group norm has 32 groups: {channels} channels are not divisible by 32")
    return GroupNorm(32, channels)


class ResidualBlock(nn.Module):
    """x + f(x) with two weight-standardised 3x3 convolutions, each followed by norm, label gain and bias, and swish.

    (B, C, H, W) -> (B, C, H, W). With labels (one-hot, (B, L)) two linear maps give a gain and a bias a channel.
    """

    def __init__(self, channels: int, norm: Norm, labels: int, spectral: bool) -> None:
        super().__init__()

        def conv() -> nn.Module:
            if spectral:
                return SpectralConv2d(channels, channels)
            return WeightStandardizedConv2d(channels, channels)

        self.conv1, self.norm1 = conv(), normalization(norm, channels)
        self.conv2, self.norm2 = conv(), normalization(norm, channels)
        self.swish = Swish()
        self.label1 = nn.Linear(labels, 2 * channels) if labels else None
        self.label2 = nn.Linear(labels, 2 * channels) if labels else None

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); label is (B, L) or None."""
        h: Tensor = self.swish(modulate(self.norm1(self.conv1(x)), self.label1, label))
        h = self.swish(modulate(self.norm2(self.conv2(h)), self.label2, label))
        return x + h

    @torch.no_grad()
    def ignore_label(self) -> None:
        """Make the gain 1 and the bias 0, whatever the label."""
        for linear in filter(None, (self.label1, self.label2)):
            gain, bias = linear.bias.chunk(2)
            linear.weight.zero_()
            gain.fill_(1)
            bias.zero_()


def modulate(h: Tensor, linear: nn.Linear | None, label: Tensor | None) -> Tensor:
    """Scale and shift the channels of h, (B, C, H, W), by maps of the label, (B, L); nothing without a label."""
    if linear is None or label is None:
        return h
    gain, bias = torch.chunk(in_float32(linear, label)[:, :, None, None], 2, dim=1)  # (B, C, 1, 1)
    return torch.addcmul(bias, h, gain)


class Downsample(nn.Module):
    """A plain 3x3 convolution that may change the channels, average pooling to half the size, swish."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, out)
        self.swish = Swish()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out, H/2, W/2)."""
        out: Tensor = self.swish(halve(self.conv(x)))
        return out


def halve(x: Tensor) -> Tensor:
    """Half the height and width by 3x3 average pooling with stride 2; the zeros of the border count."""
    return F.avg_pool2d(x, 3, stride=2, padding=1)


class SelfAttention(nn.Module):
    """x + gamma * attention(x) with channels/8 queries and keys and no 1/sqrt(d); gamma starts at 0.

    (B, C, H, W) -> (B, C, H, W). Written with matrix products because the fused kernels have no second derivative,
    which the KL loss needs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, max(channels // 8, 1), 1)
        self.key = nn.Conv2d(channels, max(channels // 8, 1), 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        q, k, v = (f(x).flatten(2) for f in (self.query, self.key, self.value))  # (B, C', HW)
        weights = torch.softmax(q.transpose(1, 2) @ k, dim=-1)  # (B, HW, HW)
        return torch.addcmul(x, self.gamma, (v @ weights.transpose(1, 2)).view_as(x))
