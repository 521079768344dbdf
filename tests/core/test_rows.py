"""Energies of many images, a few at a time."""

from __future__ import annotations

import pytest
import torch

from ebmctl.core.energy import Conditioned, EnergyNetwork, energy_gradient
from ebmctl.core.rows import InRows, bytes_each, even_part
from tests.device import DEVICE

SHAPE = (1, 4, 4)


class Small(EnergyNetwork):
    """E(x given c) = |tanh(x w)|^2 (1 + c), with how many images it was given each time."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.randn(16, 1000), requires_grad=False)
        self.given: list[int] = []

    def terms(self, x, label=None):
        self.given.append(len(x))
        found = (x.flatten(1) @ self.w).tanh().square().sum(1, keepdim=True)
        return found if label is None else found * (1 + label)


@pytest.mark.parametrize("label", [None, torch.tensor([[2.0]]), torch.arange(10.0)[:, None]])
def test_energies_and_gradients_are_those_of_all_images_together(generator, label):
    network, label = Small(), None if label is None else label.to(DEVICE)
    energy = Conditioned(network, label)
    x = torch.rand(10, *SHAPE, generator=generator)
    some = InRows(energy, 4)
    together, gradient = energy(x), energy_gradient(energy, x)
    network.given.clear()
    torch.testing.assert_close(some(x), together)
    torch.testing.assert_close(energy_gradient(some, x), gradient)
    assert network.given == 2 * [4, 4, 2]


def test_gradients_are_weighted_as_the_energies_are(generator):
    energy, x = Conditioned(Small(), None), torch.rand(5, *SHAPE, generator=generator, requires_grad=True)
    weights = torch.arange(5.0)
    (wanted,) = torch.autograd.grad((weights * energy(x)).sum(), x)
    (found,) = torch.autograd.grad((weights * InRows(energy, 2)(x)).sum(), x)
    torch.testing.assert_close(found, wanted)


def test_few_images_are_differentiable_twice(generator):
    energy, x = Conditioned(Small(), None), torch.rand(4, *SHAPE, generator=generator, requires_grad=True)
    gradient = energy_gradient(InRows(energy, 4), x, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), x)[0].isfinite().all()
    assert not energy_gradient(InRows(energy, 3), x, create_graph=True).requires_grad  # an error, not a wrong value


def test_an_images_bytes_are_what_its_graph_keeps_without_the_parameters():
    found = bytes_each(Conditioned(Small(), torch.ones(1, 1)), SHAPE, DEVICE)
    assert 4 * (16 + 1000) <= found <= 4 * (16 + 3 * 1000)
    assert found < Small().w.nbytes / 5


def test_the_graph_of_a_gradient_keeps_that_of_the_energy_too():
    energy, cpu = Conditioned(Small(), None), DEVICE
    value, gradient = (bytes_each(energy, SHAPE, cpu, create_graph=create) for create in (False, True))
    assert value + 4 * 1000 <= gradient <= 4 * value


@pytest.mark.parametrize(
    ("count", "most", "part"), [(128, 500, 128), (128, 128, 128), (128, 127, 64), (100, 30, 25), (9, 4, 3), (9, 0, 1)]
)
def test_a_part_is_all_or_a_half_of_a_half_as_often_as_needed(count, most, part):
    assert even_part(count, most) == part
