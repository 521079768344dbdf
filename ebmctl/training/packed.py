"""A step's metrics while they are on the device, and reading those of many steps at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Kind = tuple[torch.device, torch.dtype]


@dataclass(frozen=True)
class Packed:
    """Named values in their order: tensors of one device and dtype are copied into one flat tensor, not yet read."""

    plain: Mapping[str, Any]  # None for tensors
    shapes: Mapping[Kind, Mapping[str, torch.Size]]
    flat: Mapping[Kind, Tensor]


@torch.no_grad()
def pack(values: Mapping[str, Any]) -> Packed:
    """Copy named tensors, of any shape, together; the device is not waited for."""
    alike: dict[Kind, dict[str, Tensor]] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            alike.setdefault((value.device, value.dtype), {})[name] = value
    return Packed(
        {name: None if isinstance(value, Tensor) else value for name, value in values.items()},
        {kind: {name: tensor.shape for name, tensor in tensors.items()} for kind, tensors in alike.items()},
        {kind: torch.cat([tensor.flatten() for tensor in tensors.values()]) for kind, tensors in alike.items()},
    )


def unpack(packed: Sequence[Packed]) -> list[dict[str, Any]]:
    """The values as numbers and lists, with one transfer for all tensors of a device and dtype."""
    found = [dict(one.plain) for one in packed]
    for kind in dict.fromkeys(kind for one in packed for kind in one.flat):
        host = torch.cat([one.flat[kind] for one in packed if kind in one.flat]).cpu()
        for one, values in zip(packed, found, strict=True):
            for name, shape in one.shapes.get(kind, {}).items():
                values[name] = host[: shape.numel()].view(shape).tolist()
                host = host[shape.numel() :]
    return found
