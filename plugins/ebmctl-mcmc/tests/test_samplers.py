"""The samplers against distributions that are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from ebmctl import registry
from ebmctl.core.hmc import reflect
from ebmctl.core.langevin import Reporting, run
from ebmctl_mcmc.config import HmcConfig, MalaConfig
from ebmctl_mcmc.samplers import Hmc, Mala


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def gaussian(mean: Tensor, precision: Tensor):
    def energy(x: Tensor) -> Tensor:
        d = x.flatten(1) - mean
        return 0.5 * (d @ precision * d).sum(1)

    return energy


def samplers(generator: torch.Generator, temperature: float, bounded: bool, coarse: float) -> list[Hmc]:
    """Steps that are far from small: without the acceptance the variances would be far off."""
    return [
        Mala(MalaConfig(0.3 * coarse**2, temperature, bounded), generator),
        Hmc(HmcConfig(0.5 * coarse, 3, temperature, bounded), generator),
    ]


def test_they_are_found_by_name():
    assert registry.find("sampler", "mala").load() is Mala
    assert registry.find("sampler", "hmc").load() is Hmc
    assert registry.find("sampler", "hmc").load_options() is HmcConfig


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("which", [0, 1])
def test_exact_on_a_gaussian(generator, which, temperature):
    covariance = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.5]])
    mean = torch.tensor([1.0, -2.0, 0.5])
    energy = gaussian(mean, torch.linalg.inv(covariance))
    sampler = samplers(generator, temperature, False, temperature**0.5 if which else 1.0)[which]
    x = run(sampler, energy, torch.zeros(20_000, 3, 1, 1), 80).flatten(1)
    assert 0.2 < sampler.acceptance < 0.97
    assert torch.allclose(x.mean(0), mean, atol=0.03)
    assert torch.allclose(torch.cov(x.T), temperature * covariance, atol=0.03)


def test_langevin_without_the_acceptance_is_not_exact(generator):
    """For N(0, 1) unadjusted steps s have the variance 1 / (1 - s / 2); MALA has 1."""
    step = 0.8
    unit = gaussian(torch.zeros(1), torch.eye(1))
    x = torch.zeros(50_000, 1, 1, 1)
    adjusted = run(Mala(MalaConfig(step, bounded=False), generator), unit, x, 60)
    unadjusted = x
    for _ in range(60):
        noise = torch.randn(x.shape, generator=generator)
        unadjusted = (1 - step) * unadjusted + (2 * step) ** 0.5 * noise
    assert abs(float(unadjusted.var()) - 1 / (1 - step / 2)) < 0.05
    assert abs(float(adjusted.var()) - 1) < 0.03


@pytest.mark.parametrize("which", [0, 1])
def test_exact_on_a_gaussian_that_the_walls_cut(generator, which):
    """A normal distribution around 0.1 with a deviation of 0.3, cut to [0, 1]: its moments are known."""
    mean, deviation = 0.1, 0.3
    energy = gaussian(torch.tensor([mean]), torch.eye(1) / deviation**2)
    sampler = samplers(generator, 1.0, True, deviation)[which]
    x = run(sampler, energy, torch.full((60_000, 1, 1, 1), 0.5), 60).flatten()
    assert 0 <= float(x.min()) < float(x.max()) <= 1
    a, b = (0 - mean) / deviation, (1 - mean) / deviation
    density = [math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) for z in (a, b)]
    mass = 0.5 * (math.erf(b / 2**0.5) - math.erf(a / 2**0.5))
    ratio = (density[0] - density[1]) / mass
    variance = deviation**2 * (1 + (a * density[0] - b * density[1]) / mass - ratio**2)
    assert abs(float(x.mean()) - (mean + deviation * ratio)) < 0.003
    assert abs(float(x.var()) - variance) < 0.003
    below = 0.5 * (math.erf((0.05 - mean) / deviation / 2**0.5) - math.erf(a / 2**0.5)) / mass
    assert abs(float((x < 0.05).float().mean()) - below) < 0.005  # nothing piles up at the wall


def test_without_an_energy_the_box_is_filled_evenly(generator):
    x = run(Hmc(HmcConfig(0.5, 4), generator), lambda x: 0 * x.flatten(1).sum(1), torch.zeros(50_000, 1, 1, 1), 20)
    counts = torch.histc(x, 10, 0, 1) / len(x)
    assert torch.allclose(counts, torch.full((10,), 0.1), atol=0.006)


def test_acceptance(generator):
    energy = gaussian(torch.zeros(4), torch.eye(4))
    x = torch.randn(2_000, 4, 1, 1, generator=generator)
    small = Mala(MalaConfig(1e-4, bounded=False), generator)
    assert isinstance(small, Reporting)
    assert small.acceptance is None
    assert small.report() == {}
    run(small, energy, x, 10)
    assert small.acceptance > 0.995
    (name, reported), *others = small.report().items()
    assert (name, others) == ("acceptance", [])
    assert isinstance(reported, Tensor)
    assert 0.995 < float(reported) <= 1
    assert small.report() == {}
    large = Mala(MalaConfig(4.0, bounded=False), generator)
    moved = run(large, energy, x, 1)
    share = float((moved != x).flatten(1).any(1).float().mean())
    assert large.acceptance == pytest.approx(share)
    assert share < 0.5


def test_a_bad_energy_is_never_accepted(generator):
    def energy(x: Tensor) -> Tensor:
        return torch.where(x.flatten(1).sum(1) > 0.5, torch.nan, x.flatten(1).sum(1))

    x = torch.full((100, 1, 1, 1), 0.4)
    assert run(Mala(MalaConfig(0.5, bounded=False), generator), energy, x, 20).isfinite().all()


@pytest.mark.parametrize("bounded", [False, True])
def test_trajectories_can_be_reversed(generator, bounded):
    energy = gaussian(torch.tensor([0.2, 0.9]), torch.tensor([[3.0, 1.0], [1.0, 2.0]]))
    sampler = Hmc(HmcConfig(0.2, 25, bounded=bounded), generator)
    x = torch.rand(50, 2, 1, 1, generator=generator, dtype=torch.float64)
    v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    energy64 = gaussian(torch.tensor([0.2, 0.9]).double(), torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double())
    end, end_velocity = sampler.trajectory(energy64, x, v)
    assert not torch.allclose(end, x, atol=0.1)
    back, back_velocity = sampler.trajectory(energy64, end, -end_velocity)
    assert torch.allclose(back, x, atol=1e-9)
    assert torch.allclose(back_velocity, -v, atol=1e-9)
    assert energy(x.float()).shape == (50,)


def test_reflection():
    x = torch.tensor([-0.25, 0.25, 1.25, 2.25, -1.25])
    moved, velocity = reflect(x, torch.ones(5))
    assert moved.tolist() == [0.25, 0.25, 0.75, 0.25, 0.75]
    assert velocity.tolist() == [-1, 1, -1, 1, 1]


def test_seeded():
    energy = gaussian(torch.zeros(4), torch.eye(4))
    x = torch.rand(8, 1, 2, 2)
    found = [run(Hmc(HmcConfig(), torch.Generator().manual_seed(s)), energy, x, 3) for s in (1, 1, 2)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("leapfrog", [1, 3])
def test_gradient_of_an_accepted_step_to_the_parameters(generator, leapfrog):
    """Against finite differences of the same trajectory."""
    k = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = torch.rand(5, 1, 2, 2, generator=generator, dtype=torch.float64)

    def end(strength: Tensor) -> Tensor:
        sampler = Hmc(HmcConfig(0.05, leapfrog), torch.Generator().manual_seed(3))
        moved = sampler.step(lambda x: strength * x.flatten(1).square().sum(1), x, create_graph=True)
        assert sampler.acceptance == 1
        return moved.sum()

    (gradient,) = torch.autograd.grad(end(k), k)
    expected = (end(k.detach() + 1e-5) - end(k.detach() - 1e-5)) / 2e-5
    assert gradient.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("config", [HmcConfig, MalaConfig])
def test_bad_settings(config):
    for bad in ({"step_size": 0.0}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="above 0"):
            config(**bad)
