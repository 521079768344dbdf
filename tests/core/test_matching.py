"""Energy Matching against truth: gradients, pairing, and in two dimensions transport and the density."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from ebmctl.core.config import FlowConfig, LangevinConfig, MatchingConfig, ResidualConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork
from ebmctl.core.flow import flow
from ebmctl.core.langevin import Langevin
from ebmctl.core.matching import (
    EnergyMatching,
    contrast,
    label_loss,
    matching_loss,
    optimal_pairing,
    path_temperature,
)
from ebmctl.core.nets.residual import ResidualEnergy
from tests.core.quadratic import Quadratic
from tests.device import seeded


class Plane(EnergyNetwork):
    """An energy of points in the plane, as images (B, 2, 1, 1); it grows away from the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(),
            nn.Linear(128, 1),
        )  # fmt: skip

    def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        energy: Tensor = self.layers(x.flatten(1))
        return energy + x.flatten(1).square().sum(1, keepdim=True) / 2


def gaussians(count: int, generator: torch.Generator) -> Tensor:
    angle = torch.randint(0, 8, (count,), generator=generator) * (math.pi / 4)
    centers = 3 * torch.stack([angle.cos(), angle.sin()], 1)
    return (centers + 0.2 * torch.randn(count, 2, generator=generator))[:, :, None, None]


def moons(count: int, generator: torch.Generator) -> Tensor:
    angle = math.pi * torch.rand(count, generator=generator)
    upper = torch.rand(count, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    points = torch.stack([x - 0.5, y - 0.25], 1) * 1.5
    return (points + 0.1 * torch.randn(count, 2, generator=generator))[:, :, None, None]


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Twice the mean distance between two sets less the mean distances within: 0 for equal distributions."""
    a, b = a.flatten(1), b.flatten(1)
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def at_equilibrium(energy: Conditioned, config: MatchingConfig, generator: torch.Generator) -> Tensor:
    """Where long chains at the temperature settle, which start at data."""
    path = FlowConfig(1000, 10.0, "euler", config.temperature, config.cutoff)
    *_, x = flow(energy, moons(1000, generator), path, generator, start=1.0)
    return x.detach()


@pytest.fixture
def objective(generator):
    def make(**options):
        sampler = Langevin(LangevinConfig(), generator)
        return EnergyMatching(MatchingConfig(**options), (1, 4, 4), sampler, lambda x: x)

    return make


def test_the_loss_against_a_quadratic(generator):
    """-grad E = k (m - x) at x between a and b: the loss and its gradients can be written down."""
    energy = Quadratic(0.7, torch.full((1, 2, 2), 0.3, dtype=torch.float64))
    a, b = torch.rand(2, 5, 1, 2, 2, generator=generator, dtype=torch.float64)
    time = torch.rand(5, generator=generator, dtype=torch.float64)
    loss = matching_loss(Conditioned(energy, None), a, b, time).loss
    x = a + time[:, None, None, None] * (b - a)
    miss = 0.7 * (x - 0.3) + (b - a)
    assert loss.item() == pytest.approx(miss.square().mean().item())
    k, m = torch.autograd.grad(loss, [energy.k, energy.m])
    assert k.item() == pytest.approx((2 * miss * (x - 0.3)).mean().item())
    assert torch.allclose(m, (-2 * 0.7 * miss).sum(0) / miss.numel())


def test_the_loss_gradient_against_finite_differences(generator):
    network = ResidualEnergy(ResidualConfig(4, (0, 0), (1, 2), attention=1, scales=2), 1).double()
    a, b = torch.rand(2, 3, 1, 8, 8, generator=generator, dtype=torch.float64)
    time = torch.rand(3, generator=generator, dtype=torch.float64)
    energy = Conditioned(network, None)
    parameters = list(network.parameters())
    loss = matching_loss(energy, a, b, time).loss
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    step = 1e-6
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(d, alpha=sign * step)
        values.append(float(matching_loss(energy, a, b, time).loss.detach()))
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.sub_(d, alpha=sign * step)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_pairing_is_the_cheapest_of_all(generator):
    noise, data = torch.randn(2, 6, 1, 3, 3, generator=generator)

    def cost(order):
        return float((noise[torch.as_tensor(order)] - data).square().sum())

    indices = optimal_pairing(noise, data, None)
    assert sorted(indices.tolist()) == list(range(6))
    assert cost(indices) == pytest.approx(min(cost(order) for order in itertools.permutations(range(6))))
    assert cost(indices) < cost(list(range(6)))


def test_pairing_stays_within_a_label(generator):
    noise, data = torch.randn(2, 24, 1, 2, 2, generator=generator)
    label = torch.eye(3)[torch.randint(0, 3, (24,), generator=generator)]
    indices = optimal_pairing(noise, data, label)
    assert sorted(indices.tolist()) == list(range(24))
    assert torch.equal(label[indices], label)
    assert (noise[indices] - data).square().sum() < (noise - data).square().sum()


def test_contrastive_term(generator):
    energy = Conditioned(Quadratic(1.0, torch.zeros(1, 2, 2)), None)
    data, samples = torch.zeros(3, 1, 2, 2), torch.ones(3, 1, 2, 2)
    term = contrast(energy, data, samples, MatchingConfig(cd_weight=0.01, cd_clamp=0.0))
    assert term.loss.item() == pytest.approx(-0.02)
    assert term.logs["energy_samples"].item() == pytest.approx(2.0)
    clamped = contrast(energy, data, samples, MatchingConfig(cd_weight=0.01, cd_clamp=0.005))
    assert clamped.loss.item() == pytest.approx(-0.005)
    assert not torch.autograd.grad(clamped.loss, energy.network.k)[0].abs() > 0


def test_phases_of_the_objective(generator, objective):
    network = ResidualEnergy(ResidualConfig(4, (0,), (1,), 0, 1), 1, 2)
    x, label = torch.rand(5, 1, 4, 4, generator=generator), torch.eye(2)[[0, 1, 1, 0, 1]]
    warm_up = objective()
    assert [term.group for term in warm_up.losses(network, x, label)] == ["matching"]
    assert warm_up.preview(4) is None
    both = objective(cd_weight=0.1, steps=3, from_data=0.4, pairing="independent")
    terms = list(both.losses(network, x, label))
    assert [term.group for term in terms] == ["matching", "cd"]
    assert both.preview(4).shape == (4, 1, 4, 4)
    assert both.preview(9).shape == (5, 1, 4, 4)
    assert 0 <= both.preview(5).min() <= both.preview(5).max() <= 1


@pytest.mark.slow
def test_eight_gaussians_to_two_moons(generator):
    """Transport, then contrastive divergence: chains at the temperature stay at the data, where they left it before."""
    torch.manual_seed(0)
    network = Plane()
    energy = Conditioned(network, None)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)

    def step(loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(800):
        noise, data = gaussians(256, generator), moons(256, generator)
        noise = noise[optimal_pairing(noise, data, None)]
        step(matching_loss(energy, noise, data, torch.rand(256, generator=generator)).loss)
    start, truth = gaussians(2000, generator), moons(2000, generator)
    *_, moved = flow(energy, start, FlowConfig(100, 1.0), generator)
    assert energy_distance(moved, truth) < 0.02 < energy_distance(start, truth) / 20

    config = MatchingConfig(cd_weight=1.0, cd_clamp=0.0, temperature=0.3)
    path = FlowConfig(40, 0.4, "euler", config.temperature, config.cutoff)
    before = energy_distance(at_equilibrium(energy, config, generator), truth)
    for update in range(400):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - update / 400)
        *_, negatives = flow(energy, moons(256, generator), path, generator, start=1.0)
        step(contrast(energy, moons(256, generator), negatives.detach(), config).loss)
    after = energy_distance(at_equilibrium(energy, config, generator), truth)
    assert after < 0.06 < before / 5


def test_a_label_that_one_image_has_keeps_its_noise() -> None:
    draw = seeded(0)
    noise, data = torch.rand(4, 1, 2, 2, generator=draw), torch.rand(4, 1, 2, 2, generator=draw)
    pairing = optimal_pairing(noise, data, torch.eye(2)[[0, 0, 1, 0]])
    assert pairing[2] == 2
    assert sorted(pairing.tolist()) == [0, 1, 2, 3]


def test_the_label_loss_is_the_cross_entropy_of_energies() -> None:
    class ByLabel(EnergyNetwork):
        def terms(self, x, label=None):
            return (label @ torch.tensor([0.3, 0.1, -0.2]) + 0 * x.sum((1, 2, 3)))[:, None]

    config = MatchingConfig(label_weight=0.5, label_temperature=0.1)
    label = torch.eye(3)[[0, 2]]
    term = label_loss(ByLabel(), torch.rand(2, 1, 2, 2), torch.tensor([1.0, 0.5]), label, config)
    late, halfway = torch.tensor([-3.0, -1.0, 2.0]), torch.tensor([-1.2, -0.4, 0.8])  # temperatures 0.1 and 1/4
    expected = late.log_softmax(0)[0] + halfway.log_softmax(0)[2]
    assert term.loss.item() == pytest.approx(-0.5 * expected.item() / 2)
    assert term.logs["label_accuracy"] == 0.5
    dropped = torch.cat([label, torch.zeros(2, 3)])[[2, 0, 3, 1]]  # of images without a label nothing counts
    time = torch.tensor([0.3, 1.0, 0.1, 0.5])
    among = label_loss(ByLabel(), torch.rand(4, 1, 2, 2), time, dropped, config)
    assert among.loss.item() == pytest.approx(term.loss.item())
    assert among.logs["label_accuracy"] == 0.5
    nothing = label_loss(ByLabel(), torch.rand(4, 1, 2, 2), time, 0 * dropped, config)
    assert (nothing.loss, nothing.logs["label_accuracy"]) == (0, 0)


def test_the_temperature_of_the_path_makes_matched_energies_log_densities() -> None:
    """In one dimension, with data N(m, s^2) of two labels: the velocities' difference is T times that of the scores."""
    time, x = torch.tensor(0.6), torch.linspace(-1, 2, 7, dtype=torch.double)
    x.requires_grad_()

    def log_density_and_velocity(mean: float, deviation: float = 0.3) -> tuple[Tensor, Tensor]:
        t, v = float(time), 0.25
        center, variance = (1 - t) / 2 + t * mean, (1 - t) ** 2 * v + t**2 * deviation**2
        data = mean + t * deviation**2 / variance * (x - center)  # E(data given x_t)
        noise = 0.5 + (1 - t) * v / variance * (x - center)
        return -((x - center) ** 2) / (2 * variance), data - noise

    (a, u), (b, w) = log_density_and_velocity(0.2), log_density_and_velocity(0.9)
    (score,) = torch.autograd.grad((b - a).sum(), x)
    assert torch.allclose((w - u).detach(), path_temperature(time, 1e-3).double() * score, rtol=1e-5)
    assert path_temperature(torch.tensor([0.0, 1.0]), 0.1).tolist() == pytest.approx([2.0, 0.1])
