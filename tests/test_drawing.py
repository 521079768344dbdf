"""Where the chains of a model start, against the numbers themselves."""

from __future__ import annotations

import pytest
import torch

from ebmctl.models.sampling import draw
from tests.core.quadratic import Quadratic
from tests.test_run import recipe

K, DT, STEPS = 0.5, 0.25, 4
MIDDLE = torch.full((1, 8, 8), 0.25)
FLOW = [f"flow.steps={STEPS}", f"flow.time={STEPS * DT}"]
OFF = ["sampling.rounds=0", "sampling.final_steps=0"]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def gaussian() -> torch.Tensor:
    return 0.5 + torch.randn(50, 1, 8, 8, generator=seeded()) / 2


def flowed(noise: torch.Tensor) -> torch.Tensor:
    """The end of the flow: by Heun's method a step leaves 1 - k dt + (k dt)^2 / 2 of the way to the middle."""
    shrink = (1 - K * DT + (K * DT) ** 2 / 2) ** STEPS
    return (MIDDLE + shrink * (noise - MIDDLE)).clamp(0, 1)


def drawn(*changes: str) -> list[torch.Tensor]:
    plan = recipe(*changes).sampling_plan()
    found = list(draw(Quadratic(K, MIDDLE), plan, 50, seeded()))
    assert len(found) == plan.frames
    return found


def test_a_flow_starts_in_gaussian_noise_and_is_clamped_at_its_end_alone():
    """N(1/2, 1/4), of which 32 % lie outside of [0, 1]."""
    noise = gaussian()
    first, *_, last = drawn(*FLOW, *OFF)
    assert torch.allclose(first, noise.clamp(0, 1))
    assert float((first % 1 == 0).float().mean()) == pytest.approx(0.317, abs=0.03)
    assert torch.allclose(last, flowed(noise), atol=1e-5)


def test_chains_without_a_flow_start_in_uniform_noise():
    first, *_ = drawn("flow.steps=0")
    assert torch.equal(first, torch.rand(50, 1, 8, 8, generator=seeded()))


def test_sampling_after_a_flow_goes_on_from_its_end():
    """One step without noise halves the way to the middle."""
    quiet = ["sampler.noise=0.0", f"sampler.step_size={0.5 / K}", "augment.enabled=false"]
    *_, last = drawn(*FLOW, "sampling.rounds=0", "sampling.final_steps=1", *quiet)
    assert torch.allclose(last, (flowed(gaussian()) + MIDDLE) / 2, atol=1e-5)
