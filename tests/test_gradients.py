"""From the loss terms to what the optimiser gets."""

from __future__ import annotations

import pytest
import torch

from ebmctl.training.trainer import fit
from tests.test_run import trainer


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_gradient_groups_sum_to_the_step(clip, monkeypatch):
    """The optimiser gets the sum of all terms' gradients, clipped as a whole; each group's norm is that of its sum."""
    made = trainer("objective.kl_chunk=3", f"optimizer.clip={clip}", "objective.entropy_after=0")
    groups, got, losses = {}, [], made.objective.losses

    def watched(*args):
        for term in losses(*args):
            options = {"retain_graph": True, "materialize_grads": True}
            parts = torch.autograd.grad(term.loss, made.parameters, **options)
            groups.setdefault(term.group, []).append(torch.cat([part.flatten() for part in parts]))
            yield term

    monkeypatch.setattr(made.objective, "losses", watched)
    monkeypatch.setattr(
        made.optimizer, "step", lambda: got.append(torch.cat([p.grad.flatten() for p in made.parameters]))
    )
    for _ in range(2):  # the first buffer is empty, and has no entropy
        groups.clear()
        values = next(fit(made)).values
    assert {name: len(parts) for name, parts in groups.items()} == {"kl": 3, "cd": 2}
    sums = {name: sum(parts) for name, parts in groups.items()}
    total = sums["cd"] + sums["kl"]
    for name, part in sums.items():
        assert values[f"gradient_{name}"] == pytest.approx(float(part.norm()), rel=1e-5)
    assert values["gradient"] == pytest.approx(float(total.norm()), rel=1e-5)
    assert total.norm() > 0.011
    expected = total if clip == 0 else total * clip / total.norm()
    assert (got[-1] - expected).norm() < 1e-4 * expected.norm()


def test_without_the_kl_loss_the_gradient_is_that_of_one_group():
    off = next(fit(trainer("objective.kl_loss=false"))).values
    assert off["gradient"] == pytest.approx(off["gradient_cd"])


def test_a_step_goes_against_the_gradient_of_every_parameter(monkeypatch):
    """Adam's first step has the gradient's sign, also where a gradient lies otherwise in memory than its parameter."""
    made, seen = trainer(), []
    before = [p.detach().clone() for p in made.parameters]
    average = made.average

    def spy(gradients):
        total = average(gradients)
        seen.extend(part.clone() for part in total)
        return total

    monkeypatch.setattr(made, "average", spy)
    next(fit(made))
    assert any(part.stride() != p.stride() for part, p in zip(seen, made.parameters, strict=True))
    for part, old, new in zip(seen, before, made.parameters, strict=True):
        clear = part.abs() > 1e-6
        assert torch.equal((old - new.detach())[clear].sign(), part[clear].sign())
