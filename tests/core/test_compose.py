"""The algebra of energies against closed forms, at points and by sampling."""

from __future__ import annotations

import pytest
import torch

import ebmctl
from ebmctl.core.compose import EnergiesWithGradients, mixture, negate, product
from ebmctl.core.config import LangevinConfig
from ebmctl.core.energy import EnergyNetwork, energy_gradient
from ebmctl.core.langevin import Langevin, run


def bowl(mean: float, precision: float = 1.0):
    """A Gaussian's energy; in two dimensions, as images (B, 2, 1, 1)."""
    return lambda x: precision / 2 * (x - mean).flatten(1).square().sum(1)


def draw(energy, generator, start: float = 0.0, steps: int = 600, step: float = 0.02, count: int = 8000):
    """Langevin samples at temperature 1, (count, 2), without clamping."""
    sampler = Langevin(LangevinConfig(step, (2 * step) ** 0.5, clamp=False), generator)
    return run(sampler, energy, torch.full((count, 2, 1, 1), start), steps).flatten(1)


def test_and_of_gaussians_is_a_gaussian(generator):
    """Precisions add, and means are weighted by them."""
    x = draw(product(bowl(1.0, 2.0), bowl(-2.0, 1.0), weights=[1.0, 3.0]), generator)
    precision = 2.0 + 3.0
    assert torch.allclose(x.mean(0), torch.full((2,), (2.0 * 1.0 + 3.0 * -2.0) / precision), atol=0.03)
    assert torch.allclose(torch.cov(x.T), torch.eye(2) / precision, atol=0.03)


def test_the_shared_part_is_counted_once(generator):
    """E_i = shared + own_i: the product with the shared part is shared + all own parts."""
    shared = bowl(0.5, 4.0)
    parts = [bowl(2.0, 1.0), bowl(-1.0, 3.0), bowl(0.0, 0.5)]
    wholes = [lambda x, part=part: shared(x) + part(x) for part in parts]
    x = torch.randn(6, 2, 1, 1, generator=generator)
    found = product(*wholes, shared=shared)(x)
    assert torch.allclose(found, shared(x) + sum(part(x) for part in parts), atol=1e-5)
    assert torch.allclose(product(*wholes)(x), found + 2 * shared(x), atol=1e-5)
    assert torch.allclose(product(wholes[0], shared=shared)(x), wholes[0](x))


def test_or_is_the_sum_of_densities(generator):
    x = 3 * torch.randn(50, 2, 1, 1, generator=generator)
    energies = [bowl(-1.5), bowl(1.5), bowl(0.0, 4.0)]
    density = sum(torch.exp(-energy(x)) for energy in energies)
    assert torch.allclose(torch.exp(-mixture(*energies)(x)), density, rtol=1e-4)
    warm = sum(torch.exp(-energy(x) / 2) for energy in energies) ** 2
    assert torch.allclose(torch.exp(-mixture(*energies, temperature=2.0)(x)), warm, rtol=1e-4)


def test_or_reaches_both_sides(generator):
    """Two equal Gaussians on the diagonal: half of the samples on each side, with the mixture's variance."""
    x = draw(mixture(bowl(-1.0, 2.0), bowl(1.0, 2.0)), generator)
    assert (x.sum(1) > 0).float().mean().item() == pytest.approx(0.5, abs=0.05)
    assert torch.allclose(x.var(0), torch.full((2,), 0.5 + 1.0), rtol=0.08)


def test_not_pushes_away(generator):
    """A Gaussian without another is a Gaussian again: precision 1 - w, mean moved away from the negated one."""
    weight = 0.25
    x = draw(product(bowl(0.0), negate(bowl(1.0), weight)), generator)
    precision = 1 - weight
    assert torch.allclose(x.mean(0), torch.full((2,), -weight / precision), atol=0.05)
    assert torch.allclose(torch.cov(x.T), torch.eye(2) / precision, atol=0.08)


def test_compositions_are_energies(generator):
    """They nest, and have the gradient of what they are made of."""
    x = torch.randn(4, 2, 1, 1, generator=generator)
    nested = product(mixture(bowl(1.0), bowl(-1.0)), negate(bowl(2.0), 0.1), weights=[2.0, 1.0])
    step = 1e-3
    slope = (nested(x + step) - nested(x - step)) / (2 * step)
    assert torch.allclose(energy_gradient(nested, x).flatten(1).sum(1), slope, atol=1e-2)
    assert ebmctl.product is product


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: product(), "at least one"),
        (lambda: mixture(), "at least one"),
        (lambda: product(bowl(0.0), weights=[1.0, 2.0]), "1 energies, but 2 weights"),
        (lambda: mixture(bowl(0.0), temperature=0.0), "temperature must be above 0"),
    ],
)
def test_what_can_not_be_composed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Wave(EnergyNetwork):
    """A small energy that its label shapes."""

    def terms(self, x, label=None):
        label = torch.ones(len(x), 2) if label is None else label
        flat = x.flatten(1)
        return torch.stack([(flat.sin() * label[:, :1]).sum(1), (flat**2 * label[:, 1:]).sum(1)], 1)


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_an_immediate_energy_is_the_same_energy(generator, rows):
    x = torch.randn(5, 2, 3, 3, generator=generator, requires_grad=True)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.5, 2.0]])
    weights = torch.randn(3, 5, generator=generator)
    expected = torch.stack([Wave()(x, label.expand(5, -1)) for label in labels])
    found = EnergiesWithGradients(Wave(), labels, rows)(x)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad((weights * e.square()).sum(), x)[0] for e in (found, expected)]
    torch.testing.assert_close(*slopes)
    torch.testing.assert_close(EnergiesWithGradients(Wave(), labels, rows)(x.detach()), expected.detach())
    torch.testing.assert_close(EnergiesWithGradients(Wave(), None, rows)(x.detach())[0], Wave()(x).detach())


def test_an_immediate_energy_says_that_it_has_no_second_derivative(generator):
    x = torch.randn(2, 2, 3, 3, generator=generator, requires_grad=True)
    energies = EnergiesWithGradients(Wave(), None)(x)
    (slope,) = torch.autograd.grad(energies.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def ring(x):
    """Low on the circle of radius 2."""
    return 2 * (x.flatten(1).norm(dim=1) - 2).square()


def wells(x):
    """Two wells on the first axis, a bowl on the second."""
    first, second = x.flatten(1).unbind(1)
    return (first.square() - 2).square() / 4 + second.square() / 2


@pytest.mark.parametrize(
    "energy",
    [
        product(ring, wells),
        product(ring, bowl(0.5), shared=bowl(0.0, 0.5)),
        mixture(bowl(1.5, 3.0), wells),
        mixture(bowl(1.5, 3.0), bowl(-1.0), temperature=0.5),
        product(wells, negate(bowl(1.0, 0.8), 0.5)),
        product(ring, wells, weights=[0.5, 2.0]),
        product(mixture(ring, bowl(0.0, 4.0)), negate(bowl(1.0), 0.1), weights=[1.0, 2.0]),
    ],
    ids=["and", "shared", "or", "or at 0.5", "not", "weights", "nested"],
)
def test_the_sampled_density_is_the_algebra_s_on_a_grid(energy, generator):
    """The shares of samples in the cells of a grid, against exp(-E) summed over a finer one."""
    cells, fine, edge = 10, 20, 4.0
    steps = (torch.arange(cells * fine) + 0.5) / (cells * fine) * 2 * edge - edge
    points = torch.cartesian_prod(steps, steps).view(-1, 2, 1, 1)
    density = torch.exp(-energy(points)).view(cells, fine, cells, fine).sum((1, 3))
    x = 5 * torch.rand(6000, 2, 1, 1, generator=generator) - 2.5
    sampler = Langevin(LangevinConfig(0.01, 0.02**0.5, clamp=False), generator)
    places = []
    for _ in range(30):
        x = run(sampler, energy, x, 40)
        places.append(x.flatten(1))
    inside = torch.cat(places[15:])
    counts = torch.histogramdd(inside, [cells, cells], range=[-edge, edge] * 2).hist
    moved = (counts / counts.sum() - density / density.sum()).abs().sum() / 2
    assert counts.sum() > 0.98 * len(inside)
    assert moved < 0.04, moved
