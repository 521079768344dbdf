from __future__ import annotations

import pytest
import torch

from ebmctl.core.config import FlowConfig, LangevinConfig, SampleConfig
from ebmctl.core.langevin import Langevin, run
from ebmctl.core.sampling import chain
from tests.core.quadratic import Quadratic
from tests.device import seeded


def langevin(generator: torch.Generator, step_size: float, noise: float, clamp: bool = False) -> Langevin:
    return Langevin(LangevinConfig(step_size, noise, clamp), generator)


@pytest.mark.parametrize("steps", [1, 3, 40])
def test_mean_and_covariance_on_a_gaussian(generator, steps):
    """x <- y - step A (y - m), y = x + noise, is linear: its moments after any number of steps are known."""
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator))[0]
    precision = rotation @ torch.diag(torch.tensor([0.5, 1.0, 3.0])) @ rotation.T
    mean = torch.tensor([1.0, -2.0, 0.5])

    def energy(x):
        d = x.flatten(1) - mean
        return 0.5 * torch.einsum("bi,ij,bj->b", d, precision, d)

    step_size, noise, count = 0.3, 0.5, 100_000
    start = torch.tensor([3.0, 3.0, 3.0])
    x = run(langevin(generator, step_size, noise), energy, start.expand(count, 3).reshape(count, 3, 1, 1), steps)
    shrink = torch.eye(3) - step_size * precision
    expected, covariance = start - mean, torch.zeros(3, 3)
    for _ in range(steps):
        expected = shrink @ expected
        covariance = shrink @ (covariance + noise**2 * torch.eye(3)) @ shrink.T
    x = x.flatten(1)
    assert torch.allclose(x.mean(0), mean + expected, atol=0.01)
    assert torch.allclose(torch.cov(x.T), covariance, atol=0.01)


def test_stationary_variance_is_the_temperature_of_small_steps(generator):
    """With noise^2 = 2 step T the samples of E = k/2 x^2 have variance T/k up to O(step)."""
    k, step, temperature = 2.0, 0.01, 0.5
    sampler = langevin(generator, step, (2 * step * temperature) ** 0.5)
    x = run(sampler, Quadratic(k, torch.zeros(1, 1, 1)), torch.zeros(20_000, 1, 1, 1), 400)
    assert abs(float(x.var()) - temperature / k) < 0.01


def test_clamps_and_is_seeded():
    energy = Quadratic(1.0, torch.full((1, 2, 2), 5.0))
    x = torch.rand(4, 1, 2, 2)
    results = [run(langevin(seeded(s), 1.0, 0.1, clamp=True), energy, x, 3) for s in (1, 1, 2)]
    assert torch.equal(results[0], results[1])
    assert results[0].max() == 1.0
    unclamped = [run(langevin(seeded(s), 0.5, 0.1), energy, x, 3) for s in (1, 2)]
    assert not torch.equal(*unclamped)
    assert unclamped[0].max() > 1.0


def test_a_step_is_clamped_to_images_on_both_sides(generator):
    """With k = 1 and a step of 1, without noise, a step ends at m."""
    m = torch.tensor([-5.0, 0.25, 0.75, 5.0]).view(1, 2, 2)
    x = langevin(generator, 1.0, 0.0, clamp=True).step(Quadratic(1.0, m), torch.rand(3, 1, 2, 2))
    assert torch.allclose(x, m.clamp(0, 1).expand(3, 1, 2, 2), atol=1e-6)
    assert (x.min(), x.max()) == (0, 1)


def test_gradient_reaches_the_parameters_only_when_asked(generator):
    energy = Quadratic(1.0, torch.zeros(1, 2, 2))
    x = torch.rand(4, 1, 2, 2)
    assert not langevin(generator, 0.1, 0.0).step(energy, x).requires_grad
    moved = langevin(generator, 0.1, 0.0).step(energy, x, create_graph=True)
    (gradient,) = torch.autograd.grad(moved.sum(), energy.k)
    assert torch.allclose(gradient, -0.1 * x.sum())


def test_chain_takes_the_steps_that_it_says(generator):
    """Algorithm 2: a round is one augmentation, then the steps; the last steps have none."""
    calls: list[str] = []

    class Counting:
        differentiable = True

        def __init__(self) -> None:
            self.generator = generator

        def step(self, energy, x, *, create_graph=False):
            calls.append("step")
            return x + 1

    def double(x):
        calls.append("augment")
        return x * 2

    start = torch.zeros(1, 1, 1, 1)
    moments = list(
        chain(lambda x: x.sum((1, 2, 3)), start, FlowConfig(), SampleConfig(2, 3, 4), Counting(), double, generator)
    )
    assert calls == (["augment"] + ["step"] * 3) * 2 + ["step"] * 4
    assert [(after, number, float(images)) for after, number, images in moments] == [
        ("noise", 0, 0.0),
        ("augmentation", 1, 0.0),
        ("round", 1, 3.0),
        ("augmentation", 2, 6.0),
        ("round", 2, 9.0),
        ("final steps", 4, 13.0),
    ]
