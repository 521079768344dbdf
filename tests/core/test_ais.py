"""Annealed importance sampling against distributions whose log Z is known."""

from __future__ import annotations

import math

import pytest
import torch

from ebmctl.core import ais
from ebmctl.core.ais import AisConfig, Box, Gaussian, log_partition
from tests.device import seeded

SHAPE = (1, 3, 3)
SIZE = math.prod(SHAPE)
QUICK = AisConfig(chains=48, levels=120)


class Mixture:
    """-log sum_i w_i exp(-|x - m_i|^2 / (2 s_i^2)), on all numbers or on the box."""

    def __init__(self, *parts: tuple[float, float, float], bounded: bool) -> None:
        self.parts, self.bounded = parts, bounded

    def __call__(self, x):
        logs = [math.log(w) - ((x - m) / s).flatten(1).square().sum(1) / 2 for w, m, s in self.parts]
        return -torch.logsumexp(torch.stack(logs), 0)

    def log_z(self) -> float:
        return math.log(sum(w * self._volume(m, s) ** SIZE for w, m, s in self.parts))

    def _volume(self, m: float, s: float) -> float:
        inside = (math.erf((1 - m) / s / 2**0.5) + math.erf(m / s / 2**0.5)) / 2 if self.bounded else 1.0
        return inside * s * math.sqrt(2 * math.pi)

    def draw(self, count, generator):
        """Exact samples on all numbers."""
        mass = torch.tensor([w * self._volume(m, s) ** SIZE for w, m, s in self.parts])
        rows = torch.multinomial(mass, count, replacement=True, generator=generator)
        mean, std = (torch.tensor([p[i] for p in self.parts])[rows].view(-1, 1, 1, 1) for i in (1, 2))
        return mean + std * torch.randn((count, *SHAPE), generator=generator)


CASES = {
    "gaussian": (Mixture((1, 0.4, 0.2), bounded=False), Gaussian(0.5, 0.5)),
    "wider than its start": (Mixture((5, 1.0, 2.0), bounded=False), Gaussian()),
    "gaussian in the box": (Mixture((1, 0.4, 0.05), bounded=True), Box()),
    "gaussian cut by the box": (Mixture((1, 1.02, 0.2), bounded=True), Box()),
    "mixture": (Mixture((1, 0.2, 0.25), (3, 0.8, 0.2), bounded=False), Gaussian(0.5, 0.5)),
    "mixture in the box": (Mixture((1, 0.3, 0.12), (2, 0.7, 0.12), bounded=True), Box()),
    "flat": (Mixture((2, 0.5, 1e3), bounded=True), Box()),
}


@pytest.mark.parametrize("name", CASES)
def test_interval_encloses_the_truth(name, generator):
    energy, start = CASES[name]
    found = log_partition(energy, start, SHAPE, QUICK, generator)
    assert found.low <= energy.log_z() <= found.high
    assert found.high - found.low < 3
    assert abs(found.value - energy.log_z()) < 0.7
    assert 0 < found.effective <= 1
    assert 0.4 < found.acceptance <= 1


def test_forward_is_below_and_reverse_above_on_average(generator):
    energy, start = CASES["gaussian"]
    few = AisConfig(chains=4, levels=10, leapfrog=2)  # so few that the bounds are far apart
    found = [log_partition(energy, start, SHAPE, few, generator, samples=energy.draw(4, generator)) for _ in range(16)]
    below, above = (torch.tensor([getattr(f, side) for f in found]) for side in ("forward", "reverse"))
    assert below.mean() < energy.log_z() - 0.1
    assert above.mean() > energy.log_z() + 0.1


def test_weights_are_unbiased(generator):
    """The mean of exp(log_z) over runs is Z, whatever the number of levels."""
    energy, start = CASES["gaussian"]
    few = AisConfig(chains=64, levels=20)
    found = torch.tensor([log_partition(energy, start, SHAPE, few, generator).forward for _ in range(6)])
    assert float(torch.logsumexp(found, 0)) - math.log(6) == pytest.approx(energy.log_z(), abs=0.25)


def test_more_levels_are_closer(generator):
    energy, start = CASES["gaussian in the box"]
    short, long = (log_partition(energy, start, SHAPE, AisConfig(48, n), generator) for n in (10, 160))
    assert long.high - long.low < short.high - short.low
    assert long.effective > short.effective


def test_the_same_seed_gives_the_same_interval():
    energy, start = CASES["mixture in the box"]
    few = AisConfig(chains=4, levels=5)
    first, second = (log_partition(energy, start, SHAPE, few, seeded(3)) for _ in range(2))
    assert first == second


def test_it_tells_how_far_it_is(generator):
    energy, start = CASES["flat"]
    calls = []
    log_partition(
        energy, start, SHAPE, AisConfig(2, 5, settle=0), generator, progress=lambda done, of: calls.append((done, of))
    )
    assert calls[-1] == (10, 10)


def test_energies_that_no_chain_can_follow(generator, monkeypatch):
    with pytest.raises(ValueError, match="NaN or infinite"):
        log_partition(lambda x: x.flatten(1).sum(1) * math.nan, Box(), SHAPE, QUICK, generator)
    monkeypatch.setattr(ais, "PILOT_LIMIT", 3)
    with pytest.raises(ValueError, match="too steep"):
        log_partition(*CASES["gaussian in the box"], SHAPE, QUICK, generator)
    with pytest.raises(ValueError, match="chains must be at least 2"):
        AisConfig(chains=1)
