"""Each part of a run can be switched off by one key: what is then true, and is not with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ebmctl.core.energy import Conditioned, energy_gradient
from ebmctl.training.trainer import fit
from tests.device import DEVICE, seeded
from tests.spies import gradients_of, spied
from tests.test_run import trainer

STILL = ["sampler.step_size=0.0", "sampler.noise=0.0", "augment.enabled=false"]  # chains stay where they start


def first_step(made):
    return made.train_step(next(made.batches())).values


def with_images(made, count: int = 4):
    """A trainer whose buffer holds some images; gives them."""
    draw = seeded(5)
    made.objective.buffer.add(torch.rand(count, 1, 8, 8, generator=draw, device=DEVICE), draw)
    return made.objective.buffer.images[:count].clone()


def share_of(images, known) -> float:
    return float((images[:, None] == known[None]).flatten(2).all(2).any(1).float().mean())


def test_the_kl_loss():
    made = trainer("objective.kl_loss=false")
    with_images(made, 32)
    without = first_step(made)
    assert not {"loss_kl", "loss_entropy", "gradient_kl"} & without.keys()
    assert without["gradient"] == pytest.approx(without["gradient_cd"])
    made = trainer()
    with_images(made, 32)
    assert {"loss_kl", "loss_entropy", "gradient_kl"} <= first_step(made).keys()


def test_the_energy_regulariser():
    """Contrastive divergence does not see a constant that is added to all energies; the regulariser holds it at 0."""

    def slope(*changes: str) -> float:
        """Of the loss along the bias that is added to every energy."""
        made = trainer("objective.kl_loss=false", *changes)
        seen = gradients_of(made)
        with torch.no_grad():
            made.network.scales[0].head.bias.fill_(2.0)
        first_step(made)
        names = [name for name, _ in made.network.named_parameters()]
        return float(seen[0][names.index("scales.0.head.bias")])

    assert slope("objective.energy_regularizer=0.0") == pytest.approx(0, abs=1e-6)
    assert slope() == pytest.approx(2 * 2 + 2 * 2, rel=0.05)  # of the squares, for data and for samples


def test_chain_starts_in_the_buffer():
    for start, share in (("noise", 0), ("buffer", 1)):
        made = trainer(*STILL, f'objective.start="{start}"', "objective.noise_probability=0.0")
        known = with_images(made)
        first_step(made)
        assert share_of(made.objective.buffer.newest, known) == share


def test_the_kl_loss_goes_back_through_one_step_or_all():
    for through, expected in (("last", [False, False, True]), ("all", [True, True, True])):
        made = trainer("objective.steps=3", f"objective.kl_steps={through}")
        step, graphs = made.sampler.step, []

        def kept(energy, x, *, create_graph=False, step=step, graphs=graphs):
            graphs.append(create_graph)
            return step(energy, x, create_graph=create_graph)

        made.sampler.step = kept
        first_step(made)
        assert graphs == expected


def test_the_augmentation_of_chains():
    for enabled, share in (("false", 1), ("true", 0)):
        made = trainer(*STILL, f"augment.enabled={enabled}", "objective.noise_probability=0.0")
        known = with_images(made)
        first_step(made)
        assert share_of(made.objective.buffer.newest, known) == share


def test_the_samplers_noise(generator):
    x = torch.rand(5, 1, 8, 8, generator=generator)
    for noise in (0.0, 0.001):
        made = trainer(f"sampler.noise={noise}", "sampler.step_size=2.0")
        energy = Conditioned(made.network, None)
        moved = made.sampler.step(energy, x) - (x - 2.0 * energy_gradient(energy, x)).clamp(0, 1)
        assert float(moved.square().mean().sqrt()) == pytest.approx(noise, rel=0.15, abs=1e-7)


def test_dequantisation():
    off = trainer("data.dequantize=false")
    batch = next(off.batches())
    spy = spied(off)
    off.train_step(batch)
    assert torch.equal(spy.positives[0], batch.images.float() / 255)
    on = trainer()
    spy = spied(on)
    for _ in range(20):
        on.train_step(batch)
    within = torch.stack(spy.positives) * 256 - batch.images  # of one grey level
    assert 0 <= within.min() < 0.02 < 0.98 < within.max() <= 1
    assert float(within.mean()) == pytest.approx(0.5, abs=0.02)
    assert within[0].std() > 0.2 < within[:, 0, 0, 0, 0].std()  # a number of its own for each pixel of each step


def test_norms():
    def norms(made) -> int:
        return sum(isinstance(module, nn.GroupNorm) for module in made.network.modules())

    assert norms(trainer("network.norm=none")) == 0
    assert norms(trainer()) == 2


def test_spectral_norm():
    made = trainer("network.spectral_norm=true", "run.steps=20")
    for _ in fit(made):
        pass
    weights = [m.weight for m in made.network.modules() if parametrize.is_parametrized(m)]
    assert len(weights) == 2
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, rel=0.05)
    assert not any(parametrize.is_parametrized(module) for module in trainer().network.modules())


def test_the_average_of_the_weights():
    for decay in (0.0, 0.9):
        made = trainer(f"optimizer.ema={decay}")
        for _ in fit(made):
            pass
        same = [torch.equal(*pair) for pair in zip(made.ema.parameters(), made.network.parameters(), strict=True)]
        assert all(same) if decay == 0 else not any(same)
