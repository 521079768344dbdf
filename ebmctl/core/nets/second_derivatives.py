"""A 3x3 convolution and Swish whose second derivatives are fast, for the KL loss and Energy Matching."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ebmctl.core.nets.precision import lowered, widened


class _Convolution(torch.autograd.Function):
    """F.conv2d with padding 1, but for how it is differentiated twice.

    PyTorch's own second derivative takes the gradient to the weight by a convolution with a kernel as large as the
    image. Here the first derivative is itself a convolution, so that the second one is an ordinary backward pass.
    The gradients to weight and bias are those of `_Parameters`, whose output stands for them here: it has the output's
    shape and no memory, and the output's gradient is passed on to it as it is.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, _stand_in: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor]:
        x, weight = ctx.saved_tensors
        to_x = None
        if ctx.needs_input_grad[0] and torch.is_grad_enabled():  # under create_graph
            to_x = F.conv2d(gradient, weight.flip(2, 3).transpose(0, 1), padding=1)
        elif ctx.needs_input_grad[0]:
            to_x = _convolution_backward(gradient, x, weight, [True, False, False])[0]
        return to_x, None, None, gradient


class _Parameters(torch.autograd.Function):
    """The part of a convolution's graph that gives the gradients to its weight and bias.

    It is a node of its own, and x is no input of it (it comes in a tuple, which autograd does not look into): so
    autograd.grad(energy, x), which a Langevin step takes with `create_graph`, does not run it.
    """

    @staticmethod
    def forward(ctx: Any, inputs: tuple[Tensor], weight: Tensor, _bias: Tensor | None) -> Tensor:
        (x,) = inputs
        ctx.save_for_backward(x, weight)
        return x.new_empty(()).expand(len(x), len(weight), *x.shape[2:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        _, to_weight, to_bias = _convolution_backward(gradient, x, weight, [False, *ctx.needs_input_grad[1:]])
        return None, to_weight, to_bias


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients to x, weight and bias, those that are wanted; differentiable."""
    shape = ([weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    parts: tuple[Tensor | None, Tensor | None, Tensor | None]
    parts = torch.ops.aten.convolution_backward(gradient, x, weight, *shape, wanted)
    return parts


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve images (B, C, H, W) with a weight (O, C, 3, 3), padding 1 -> (B, O, H, W).

    Autocast casts a convolution's inputs, but not those of a function of one's own, whose derivatives are taken
    outside of it: so they are cast here, and the gradients to weight and bias are float32 again.
    """
    if weight.requires_grad and torch.is_grad_enabled():
        x, weight = lowered(x), lowered(weight)
        bias = None if bias is None else lowered(bias)
        out: Tensor = _Convolution.apply(x, weight, bias, _Parameters.apply((x,), weight, bias))
        return out
    return F.conv2d(x, weight, bias, padding=1)


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
        # not in bfloat16, where 1 - s is mostly rounding error
        gradient, x, out, upstream = map(widened, (*ctx.saved_tensors, upstream))
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
