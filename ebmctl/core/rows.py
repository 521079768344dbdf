"""Many images a few at a time: what an energy computes for these alone is in memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebmctl.core.energy import Conditioned, Energy, energy_gradient

SAFETY = 4  # times what a graph keeps: gradients, what layers need in passing, and other programs


class InRows:
    """An energy that is computed, with its gradient to the images, for `rows` images at a time.

    Images (B, C, H, W) -> (B,). More images than `rows` are differentiable once: their gradients are computed at once,
    so that the graph of one part is in memory, not that of all of them.
    """

    def __init__(self, energy: Energy, rows: int) -> None:
        self.energy, self.rows = energy, rows

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        if len(x) <= self.rows:
            return self.energy(x)
        if torch.is_grad_enabled() and x.requires_grad:
            energies: Tensor = _WithGradient.apply(x, self)
            return energies
        return torch.cat([self.part(low)(x[low : low + self.rows]) for low in range(0, len(x), self.rows)])

    def part(self, low: int) -> Energy:
        """The energy of the images from one on, which may have a label each."""
        return _rows(self.energy, slice(low, low + self.rows))


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, energy: InRows) -> Tensor:
        energies, gradients = [], []
        for low in range(0, len(x), energy.rows):
            some = x[low : low + energy.rows].detach().requires_grad_()
            with torch.enable_grad():
                energies.append(energy.part(low)(some))
                gradients.append(torch.autograd.grad(energies[-1].sum(), some)[0])
            energies[-1] = energies[-1].detach()  # and its graph is gone
        ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(energies)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return upstream.view(-1, *[1] * (gradients.ndim - 1)) * gradients, None


def rows_that_fit(free: int, each: int) -> int:
    """How many images at a time, of so many bytes each, one at least."""
    return max(1, free // (SAFETY * each))


def even_part(count: int, most: int) -> int:
    """The largest of count, count / 2, count / 4, ..., rounded up, that is at most `most`; one at least."""
    while count > max(most, 1):
        count = (count + 1) // 2
    return count


def bytes_each(energy: Energy, shape: tuple[int, ...], device: torch.device, *, create_graph: bool = False) -> int:
    """How many bytes the graph from an image (C, H, W) to its energy keeps, without the parameters.

    With `create_graph` that from the image to the energy's gradient, which is about twice as many.
    """
    energy = getattr(energy, "plain", energy)  # a compiled one would be compiled for these few images
    one, two = (_kept(energy, count, shape, device, create_graph) for count in (1, 2))
    return max(two - one, 1)


def _kept(energy: Energy, count: int, shape: tuple[int, ...], device: torch.device, create_graph: bool) -> int:
    """The bytes that backpropagation from some images' energies, or gradients, needs, each counted once."""
    seen: dict[int, torch.UntypedStorage] = {}  # the storages themselves, so that no address is taken twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage._cdata] = storage
        return tensor

    x = torch.zeros(count, *shape, device=device, requires_grad=True)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        some = _rows(energy, slice(count))
        energy_gradient(some, x, create_graph=True) if create_graph else some(x)
    return x.nbytes + sum(storage.nbytes() for storage in seen.values())


def _rows(energy: Energy, rows: slice) -> Energy:
    return energy[rows] if isinstance(energy, Conditioned) else energy
