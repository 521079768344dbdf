"""A 3x3 convolution whose second derivative is fast, for the KL loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class _Convolution(torch.autograd.Function):
    """F.conv2d with padding 1, but for how it is differentiated twice.

    PyTorch's own second derivative takes the gradient to the weight by a convolution with a kernel as large as the
    image. Here the first derivative is itself a convolution, so that the second one is an ordinary backward pass.
    Under `create_graph` only the gradient to the input is given: that is all that a Langevin step asks for.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return F.conv2d(gradient, weight.flip(2, 3).transpose(0, 1), padding=1), None, None
        shape = ([weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
        parts = torch.ops.aten.convolution_backward(gradient, x, weight, *shape, list(ctx.needs_input_grad))
        return parts[0], parts[1], parts[2]


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve images (B, C, H, W) with a weight (O, C, 3, 3), padding 1 -> (B, O, H, W)."""
    if weight.requires_grad and torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type):
        out: Tensor = _Convolution.apply(x, weight, bias)
        return out
    return F.conv2d(x, weight, bias, padding=1)
