"""The gradient flow against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from ebmctl.core.config import FlowConfig
from ebmctl.core.flow import flow, temperature
from ebmctl.core.noise import gaussian_noise
from tests.core.quadratic import Quadratic


def end(x, config, generator, start=0.0, k=1.0):
    energy = Quadratic(k, torch.zeros(3, 1, 1, dtype=x.dtype))
    for moved in flow(energy, x, config, generator, start):
        x = moved.detach()
    return x


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_the_method(generator, method, order):
    """On a quadratic energy the flow is x exp(-t); halving the step divides the error by 2 to the order."""
    x = torch.randn(4, 3, 1, 1, generator=generator, dtype=torch.float64)
    errors = [(end(x, FlowConfig(steps, 1.0, method), generator) - x * math.exp(-1)).abs().max() for steps in (40, 80)]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.05)
    assert errors[1] < 0.01


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_equilibrium_has_the_temperature(generator, method):
    """At temperature T the density is exp(-E / T): on a curvature of k the variance is T / k, for small steps."""
    t, k, dt = 0.3, 2.0, 0.02
    x = torch.randn(20_000, 3, 1, 1, generator=generator)
    x = end(x, FlowConfig(250, 250 * dt, method, temperature=t, cutoff=0.0), generator, start=1.0, k=k)
    shrink = 1 - k * dt + (k * dt) ** 2 / 2 * (method == "heun")
    exact = 2 * dt * t / (1 - shrink**2)  # with steps of this size
    assert exact == pytest.approx(t / k, rel=0.05)
    assert torch.allclose(x.flatten(1).var(0), torch.full((3,), exact), rtol=0.03)
    assert x.mean().abs() < 0.01


def test_no_noise_before_the_cutoff(generator):
    config = FlowConfig(20, 1.0, "euler", temperature=0.5, cutoff=1.0)
    x = torch.randn(4, 3, 1, 1, generator=generator)
    assert torch.equal(end(x, config, generator), end(x, FlowConfig(20, 1.0, "euler"), generator))
    assert not torch.equal(end(x, config, generator, start=1.0), end(x, config, generator, start=1.0))


def test_temperature_schedule():
    config = FlowConfig(temperature=0.2, cutoff=0.5)
    assert [temperature(t, config) for t in (0.0, 0.49, 0.5, 0.75, 1.0, 3.0)] == pytest.approx([0, 0, 0, 0.1, 0.2, 0.2])
    assert [temperature(t, FlowConfig(temperature=0.2)) for t in (0.99, 1.0)] == [0, 0.2]


def test_noise_is_standard_normal_on_the_interval_from_minus_one_to_one(generator):
    x = 2 * gaussian_noise(2000, (3, 4, 4), generator) - 1
    assert x.mean().abs() < 0.01
    assert abs(x.std() - 1) < 0.01
