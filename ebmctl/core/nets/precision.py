"""Which parts of a network keep float32 under autocast. Where autocast is off, nothing here does anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor

LOW = (torch.bfloat16, torch.float16)


def widened(x: Tensor) -> Tensor:
    """A tensor of lower precision in float32, any other as it is."""
    return x.float() if x.dtype in LOW else x


def lowered(x: Tensor) -> Tensor:
    """A float32 tensor in autocast's precision, as autocast itself gives it to a convolution; differentiable."""
    kind = x.device.type
    if x.dtype == torch.float32 and torch.is_autocast_enabled(kind):
        return x.to(torch.get_autocast_dtype(kind))
    return x


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """No autocast within it, on the device of x."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else contextlib.nullcontext()


def in_float32(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """layer(x), under autocast in float32: for the layers that read the image and those whose output is an energy.

    bfloat16 has 8 significant bits: of an energy of 2,800 it keeps multiples of 16, whereas energies of images of one
    kind differ by less. A float64 network stays in float64.
    """
    if not torch.is_autocast_enabled(x.device.type):
        return layer(x)
    with autocast_off(x):
        return layer(widened(x))
