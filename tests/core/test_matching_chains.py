"""The chains of Energy Matching's contrastive divergence: where they start, and at which time, against closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ebmctl.core.config import LangevinConfig, MatchingConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork
from ebmctl.core.langevin import Langevin
from ebmctl.core.matching import EnergyMatching
from tests.core.quadratic import Quadratic

DATA, STEPS, DT, HOT = 0.3, 4, 0.1, 0.5
SHAPE = (1, 2, 2)
FLAT = Quadratic(0.0, torch.zeros(SHAPE))


def objective(generator: torch.Generator, **options) -> EnergyMatching:
    settings = {"cd_weight": 1.0, "pairing": "independent", "steps": STEPS, "step_time": DT, "temperature": HOT}
    sampler = Langevin(LangevinConfig(), generator)
    return EnergyMatching(MatchingConfig(**{**settings, **options}), SHAPE, sampler, lambda x: x)


@pytest.mark.parametrize("cutoff", [1.0, 0.0])
def test_chains_from_data_are_hot_at_once_and_those_from_noise_warm_up(generator, cutoff):
    """Without forces a chain only gathers noise: 2 T(t) dt a step, t from 1 on where it starts in data, 0 in noise.

    Up to the cutoff T is 0; after it T rises to its full value at time 1, on a line.
    """
    data = torch.full((8000, *SHAPE), DATA)
    ends = objective(generator, cutoff=cutoff, from_data=0.25).negatives(Conditioned(FLAT, None), data)
    assert ends.shape == data.shape
    cold, warm = 0.25, 2 * DT * sum(HOT * step * DT for step in range(STEPS))
    for rows, mean, variance in (
        (ends[:2000], DATA, STEPS * 2 * DT * HOT),
        (ends[2000:], 0.5, cold if cutoff == 1 else cold + warm),
    ):
        assert float(rows.mean()) == pytest.approx(mean, abs=0.02)
        assert float(rows.var()) == pytest.approx(variance, rel=0.05)


def test_every_chain_follows_its_own_label(generator):
    """Without noise a chain falls to the middle of its label by (1 - k dt) a step; its energy is weighed there."""

    class Labelled(EnergyNetwork):
        """k/2 |x - m|^2 with the m of a label."""

        def __init__(self) -> None:
            super().__init__()
            self.middle = torch.nn.Parameter(torch.tensor([-1.0, 2.0, 5.0]))

        def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            middle = (label @ self.middle)[:, None]
            return 0.5 * (x.flatten(1) - middle).square().sum(1, keepdim=True)

    label = torch.eye(3)[torch.arange(30) % 3]
    middle = (label @ torch.tensor([-1.0, 2.0, 5.0]))[:, None, None, None]
    data = torch.rand(30, *SHAPE, generator=generator)
    made = objective(generator, temperature=0.0, from_data=1 / 3, steps=60)
    ends = made.negatives(Conditioned(Labelled(), label), data)
    assert torch.allclose(ends[:10], middle[:10] + (data - middle)[:10] * (1 - DT) ** 60, atol=1e-5)
    assert torch.allclose(ends, middle.expand_as(ends), atol=0.02)
    *_, term = made.losses(Labelled(), data, label)
    assert term.logs["energy_samples"] < 1e-3 < 1 < term.logs["energy_data"]


def test_weights_and_shares_of_the_transport_reach_its_loss(generator):
    """-grad E is 0 on a flat energy, so that the loss is the mean square of data less noise: 1/4 + (0.3 - 0.5)^2."""
    data = torch.full((8000, *SHAPE), DATA)
    for weight in (1.0, 3.0):
        (term,) = objective(generator, cd_weight=0.0, matching_weight=weight).losses(FLAT, data, None)
        assert term.loss.item() == pytest.approx(weight * 0.29, rel=0.03)
        assert float(term.logs["loss_matching"]) == pytest.approx(0.29, rel=0.03)
    pairs = torch.cat([torch.zeros(30, *SHAPE), torch.ones(30, *SHAPE)])
    far, near = (
        next(objective(generator, cd_weight=0.0, pairing=pairing).losses(FLAT, pairs, None)).loss.item()
        for pairing in ("independent", "optimal")
    )
    assert near < 0.7 * far


def test_labels_are_asked_on_the_last_part_of_the_way_of_the_images_that_have_one(generator):
    class Asked(EnergyNetwork):
        """Keeps the images whose label is asked."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def terms(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            return self.weight * x.flatten(1).sum(1, keepdim=True)

        def label_energies(self, x: Tensor, count: int) -> Tensor:
            self.seen = x
            return self.weight * x.flatten(1)[:, :count]

    network, label = Asked(), torch.eye(2)[torch.arange(4000) % 2]
    label[::4] = 0
    data = torch.full((4000, *SHAPE), 100.0)  # so far away that a point tells its share of the way
    made = objective(generator, matching_weight=0.0, cd_weight=0.0, label_weight=1.0, label_span=0.2)
    (term,) = made.losses(network, data, label)
    assert term.group == "label"
    assert len(network.seen) == 4000  # those without a label weigh nothing, but are asked too
    way = network.seen.flatten(1).mean(1) / 100
    assert 0.79 < way.min() < 0.82
    assert float(way.mean()) == pytest.approx(0.9, abs=0.01)
    assert way.max() <= 1
