"""Swish, whose second derivative is fast, for the KL loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = F.silu(x)
        ctx.save_for_backward(x, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        result: Tensor = _SiluBackward.apply(gradient, *ctx.saved_tensors)
        return result


class _SiluBackward(torch.autograd.Function):
    """gradient * silu'(x). PyTorch differentiates this through a chain of a dozen element-wise kernels."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, out: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, x, out)
        first: Tensor = torch.ops.aten.silu_backward(gradient, x)
        return first

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        gradient, x, out = ctx.saved_tensors
        # silu'' = s (1 - s) (2 + x - 2 silu) with s the sigmoid
        curvature = torch.add(x, out, alpha=-2).add_(2)
        second = torch.ops.aten.sigmoid_backward(upstream * gradient, torch.sigmoid(x)).mul_(curvature)
        return torch.ops.aten.silu_backward(upstream, x), second, None


class Swish(nn.Module):
    """x * sigmoid(x), of any shape; while training at most twice differentiable."""

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of the shape of x."""
        if self.training and torch.is_grad_enabled():
            out: Tensor = _Silu.apply(x)
            return out
        return F.silu(x)
