"""What a training step makes of a gradient: Adam, clipping, the rate and the averaged weights, written out."""

from __future__ import annotations

import math

import pytest
import torch

from ebmctl.training.trainer import fit
from tests.spies import gradients_of, spied
from tests.test_run import trainer

PHASES = "phases=[{share=0.5, optimizer={lr=1e-2, betas=[0.5, 0.8], eps=1e-3, ema=0.2, batch_size=4}}, {share=0.5}]"
COSINE = ["optimizer.lr=0.4", "optimizer.decay=cosine"]


@pytest.mark.parametrize("clip", [0.0, 0.02])
def test_a_step_is_adams_of_the_clipped_gradient_with_the_recipes_settings(clip):
    """Kingma and Ba's Algorithm 1, with betas and an eps that are nobody's defaults."""
    lr, first, second, eps = 0.01, 0.6, 0.8, 1e-3
    options = [f"optimizer.{text}" for text in (f"lr={lr}", f"betas=[{first}, {second}]", f"eps={eps}")]
    made = trainer(*options, f"optimizer.clip={clip}")
    weights = [p.detach().double() for p in made.parameters]
    seen, m, v, clipped = gradients_of(made), [0.0] * len(weights), [0.0] * len(weights), []
    for t, metrics in enumerate(fit(made), 1):
        gradient = [part.double() for part in seen[-1]]
        norm = math.sqrt(sum(float(part.square().sum()) for part in gradient))
        assert metrics.values["gradient"] == pytest.approx(norm, rel=1e-4)
        clipped.append(bool(clip) and norm > clip)
        scale = clip / norm if clipped[-1] else 1.0
        for i, g in enumerate(part * scale for part in gradient):
            m[i] = first * m[i] + (1 - first) * g
            v[i] = second * v[i] + (1 - second) * g.square()
            weights[i] = weights[i] - lr * m[i] / (1 - first**t) / ((v[i] / (1 - second**t)).sqrt() + eps)
        for mine, expected in zip(made.parameters, weights, strict=True):
            assert torch.allclose(mine.detach().double(), expected, rtol=0, atol=1e-5)  # steps are of 1e-2
    assert any(clipped) == bool(clip)


def test_the_averaged_weights_follow_with_the_decay_of_the_phase():
    made = trainer(PHASES, "optimizer.ema=0.3", "optimizer.lr=0.01")
    spied(made)
    average = [p.clone() for p in made.ema.parameters()]
    assert all(torch.equal(mine, p) for mine, p in zip(average, made.network.parameters(), strict=True))
    for metrics in fit(made):
        step = metrics.step
        decay = min(0.2 if step <= 3 else 0.3, step / (step + 9))
        average = [decay * mine + (1 - decay) * p.detach() for mine, p in zip(average, made.parameters, strict=True)]
        for mine, expected in zip(made.ema.parameters(), average, strict=True):
            assert torch.allclose(mine, expected, rtol=0, atol=1e-6)


def test_a_phase_has_batches_of_its_own_size_and_an_optimiser_without_a_past():
    made = trainer(PHASES, "optimizer.lr=0.5")
    spy = spied(made)
    for metrics in fit(made):
        counts = {int(state["step"]) for state in made.optimizer.state.values()}
        assert counts == {(metrics.step - 1) % 3 + 1}
        group = made.optimizer.param_groups[0]
        first = metrics.step <= 3
        assert (group["lr"], group["betas"], group["eps"]) == (
            (1e-2, (0.5, 0.8), 1e-3) if first else (0.5, (0.0, 0.9), 1e-8)
        )
    assert [len(positives) for positives in spy.positives] == [4, 4, 4, 8, 8, 8]


def test_a_roll_back_lowers_the_rate_of_all_that_is_to_come():
    made = trainer(*COSINE, "guard.lr_factor=0.5")
    made.try_again(1)
    made.advance(1 / 3)
    assert made.optimizer.param_groups[0]["lr"] == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi / 3)) / 2)
    two = trainer(PHASES, "optimizer.lr=0.4", "guard.lr_factor=0.5")
    two.try_again(2)
    assert two.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 / 4)
    two.advance(0.5)
    assert two.optimizer.param_groups[0]["lr"] == pytest.approx(0.4 / 4)
