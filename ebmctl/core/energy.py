"""What an energy is: a function of images; p(x) is proportional to exp(-E(x))."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class Energy(Protocol):
    """Maps images (B, C, H, W) in [0, 1] to energies (B,), low for what looks like the data."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Energies (B,)."""


class EnergyNetwork(nn.Module):
    """What an architecture is: a torch module whose energy is the sum of its `terms`.

    `label_optional` says of a conditional one that without a label it gives the energy of images of any label.
    """

    label_optional = False

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, S), one for each scale, of images (B, C, H, W) in [0, 1] and labels (B, L)."""
        raise NotImplementedError

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """The energy (B,): the sum of the terms."""
        return self.terms(x, label).sum(1)

    def label_energies(self, x: Tensor, count: int) -> Tensor:
        """E(x given c) for each of `count` labels c, (B, L), up to a term that an image's labels share."""
        every = torch.eye(count, device=x.device, dtype=x.dtype).repeat_interleave(len(x), 0)
        energies: Tensor = self(x.repeat(count, 1, 1, 1), every)
        return energies.view(count, -1).T

    def evaluate(self, method: str, x: Tensor, *rest: Any) -> Tensor:
        """A method by its name, of images (B, C, H, W) and what else it takes -> (B, ...), in `Wrapper`'s way."""
        value: Tensor = getattr(self, method)(x, *rest)
        return value

    @property
    def innermost(self) -> EnergyNetwork:
        """The network itself, without what wraps it."""
        return self

    def label_part(self) -> EnergyNetwork | None:
        """What labels add, as a network: E(x given c) = E(x) + part(x given c). None where they act otherwise."""
        return None

    def ignore_labels(self) -> None:
        """Set the parameters that only labels use so that these have no effect; by default nothing."""


class Conditioned:
    """An energy network with its label bound: E(x given label) as an `Energy`.

    The label is one for all images, (1, L), so that there may be any number of them; or one for each, (B, L); or None.
    """

    def __init__(self, network: EnergyNetwork, label: Tensor | None) -> None:
        self.network, self.label = network, label

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        energy: Tensor = self.network(x, self._label_of(x))  # not forward(), which is not the compiled one
        return energy

    def terms(self, x: Tensor) -> Tensor:
        """Energies (B, S), one for each scale."""
        return self.network.terms(x, self._label_of(x))

    @property
    def plain(self) -> Conditioned:
        """The same energy without what wraps the network."""
        return Conditioned(self.network.innermost, self.label)

    def gradient(self, x: Tensor) -> Tensor:
        """The gradient (B, C, H, W) by the network's own way (`HasGradient`)."""
        assert isinstance(self.network, HasGradient)
        return self.network.gradient(x, self._label_of(x))

    def __getitem__(self, rows: slice) -> Conditioned:
        """The energy of some rows of a batch."""
        if self.label is None or len(self.label) == 1:
            return self
        return Conditioned(self.network, self.label[rows])

    def _label_of(self, x: Tensor) -> Tensor | None:
        if self.label is None or len(self.label) != 1:
            return self.label
        return self.label.expand(len(x), -1)


@runtime_checkable
class Foldable(Protocol):
    """A layer that computes something from its parameters alone, such as standardised weights."""

    def folded(self) -> nn.Module:
        """The same map with what it computes as plain, fixed parameters."""


def frozen(network: EnergyNetwork) -> EnergyNetwork:
    """A copy with fixed parameters: Omega(theta) in Algorithm 1. Gradients to the image are kept.

    What is computed from parameters alone (weight standardisation, spectral norm) is computed once, here.
    """
    fixed = copy.deepcopy(network).eval()
    _fold(fixed)
    return fixed.requires_grad_(False)


@torch.no_grad()
def refresh(fixed: EnergyNetwork, network: EnergyNetwork) -> None:
    """Bring a copy by `frozen` up to date in place, where it is in memory."""
    mine, new = zip(*_pairs(fixed, network), strict=True)
    torch._foreach_copy_(list(mine), list(new))


class Wrapper(EnergyNetwork):
    """An energy network that has another one do its work, in a way of its own."""

    def __init__(self, network: EnergyNetwork) -> None:
        super().__init__()
        self.network = network

    def evaluate(self, method: str, x: Tensor, *rest: Any) -> Tensor:
        """See `EnergyNetwork.evaluate`."""
        raise NotImplementedError

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, S), one for each scale."""
        return self.evaluate("terms", x, label)

    def label_energies(self, x: Tensor, count: int) -> Tensor:
        """Energies (B, L), one for each label."""
        return self.evaluate("label_energies", x, count)

    @property
    def innermost(self) -> EnergyNetwork:
        """The network itself, without what wraps it."""
        return self.network.innermost


class Autocast(Wrapper):
    """An energy network that computes in a lower precision; its parameters and energies stay in float32."""

    def __init__(self, network: EnergyNetwork, dtype: torch.dtype) -> None:
        super().__init__(network)
        self.dtype = dtype

    def evaluate(self, method: str, x: Tensor, *rest: Any) -> Tensor:
        """A method in the lower precision."""
        with torch.autocast(x.device.type, self.dtype):
            return self.network.evaluate(method, x, *rest).float()


@runtime_checkable
class HasGradient(Protocol):
    """An energy network with a faster way to its gradient than through its energy."""

    def gradient(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """The energy's gradient to images (B, C, H, W), differentiable in gradient mode."""


def _pairs(fixed: nn.Module, module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """The parameters and buffers of a frozen copy, with what they come from."""
    module = module.folded() if isinstance(module, Foldable) else module
    for mine, new in ((fixed.parameters, module.parameters), (fixed.buffers, module.buffers)):
        yield from zip(mine(recurse=False), new(recurse=False), strict=True)
    for mine, new in zip(fixed.children(), module.children(), strict=True):
        yield from _pairs(mine, new)


def _fold(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Foldable):
            setattr(module, name, child.folded())
        else:
            _fold(child)


def energy_gradient(energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """The gradient of the energy to the image, (B, C, H, W); each image's energy depends on that image only."""
    with torch.set_grad_enabled(create_graph):
        if isinstance(energy, Conditioned) and isinstance(energy.network, HasGradient):
            return energy.gradient(x)
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x, create_graph=create_graph)
    return gradient
