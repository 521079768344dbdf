"""What an energy is: a function of images; p(x) is proportional to exp(-E(x))."""

from __future__ import annotations

import copy
from typing import Protocol, runtime_checkable

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


class CompiledFreeze:
    """`frozen` that keeps one compiled copy and brings its parameters up to date, so that it is compiled once.

    Only the copy can be compiled: the differentiable step needs second derivatives, which compiled graphs lack.
    """

    def __init__(self, network: EnergyNetwork) -> None:
        self.copy = frozen(network)
        self.copy.compile()

    def __call__(self, network: EnergyNetwork) -> EnergyNetwork:
        """The compiled copy, with the parameters that `network` has now."""
        with torch.no_grad():
            for mine, new in zip(self.copy.parameters(), frozen(network).parameters(), strict=True):
                mine.copy_(new)
        return self.copy


class Autocast(EnergyNetwork):
    """An energy network that computes in a lower precision; its parameters and energies stay in float32."""

    def __init__(self, network: EnergyNetwork, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """Energies (B, S), one for each scale."""
        with torch.autocast(x.device.type, self.dtype):
            return self.network.terms(x, label).float()

    def label_energies(self, x: Tensor, count: int) -> Tensor:
        """Energies (B, L), one for each label."""
        with torch.autocast(x.device.type, self.dtype):
            return self.network.label_energies(x, count).float()


def _fold(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Foldable):
            setattr(module, name, child.folded())
        else:
            _fold(child)


def energy_gradient(energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
    """The gradient of the energy to the image, (B, C, H, W); each image's energy depends on that image only."""
    with torch.enable_grad():
        if not x.requires_grad:
            x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x, create_graph=create_graph)
    return gradient
