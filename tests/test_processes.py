"""One of two processes, the other made up: test_parallel.py has real ones."""

from __future__ import annotations

import pytest
import torch

from ebmctl.errors import DivergedError
from ebmctl.training.trainer import Trainer
from tests.spies import OneOfTwo, gradients_of, spied
from tests.test_run import images, recipe


def test_the_gradient_is_the_sum_over_losses_averaged_over_processes(generator):
    made = Trainer(recipe(), images(), OneOfTwo(gradient=lambda mine: 3 * mine + 1))
    cd, kl = ([torch.randn(p.shape, generator=generator) for p in made.parameters] for _ in range(2))
    expected = [(4 * (a + b) + 1) / 2 for a, b in zip(cd, kl, strict=True)]
    found = made.average({"cd": cd, "kl": kl})
    assert len(found) == len(expected)
    for mine, part in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, part)


def test_a_step_is_that_of_the_averaged_gradient():
    """The other process wants to go up as far as this one down, and by 2 besides: on average 1 for every weight."""
    two = OneOfTwo(gradient=lambda mine: 2 - mine)
    made = Trainer(recipe("optimizer.lr=0.01", "optimizer.clip=0.0"), images(), two)
    seen, before = gradients_of(made), [p.detach().clone() for p in made.parameters]
    values = made.train_step(next(made.batches())).values
    assert all(torch.allclose(part, torch.ones(()), atol=1e-5) for part in seen[0])
    assert values["gradient"] == pytest.approx(sum(p.numel() for p in before) ** 0.5, rel=1e-4)
    for new, old in zip(made.parameters, before, strict=True):
        assert torch.allclose(new, old - 0.01, atol=1e-6)


def test_what_diverges_in_another_process_leaves_the_weights_here():
    made = Trainer(recipe(), images(), OneOfTwo(gathered=torch.ones_like))
    before = [p.detach().clone() for p in made.parameters]
    with pytest.raises(DivergedError, match="at step 1: in another process"):
        made.train_step(next(made.batches()))
    assert all(torch.equal(old, new) for old, new in zip(before, made.parameters, strict=True))
    assert made.step == 0


def test_processes_start_alike_and_share_out_the_data():
    first, second = (Trainer(recipe("optimizer.batch_size=10"), images(), OneOfTwo(rank)) for rank in (0, 1))
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name])
    parts = [next(made.batches()).images for made in (first, second)]
    assert len(torch.unique(torch.cat(parts), dim=0)) == 20  # every image of the epoch


def test_labels_are_dropped_in_every_process_by_itself():
    """Else both processes would leave out the labels at the same places of their batches."""
    options = ["data.label=class", "data.label_dropout=0.5", "optimizer.batch_size=64"]
    dropped = []
    for rank in (0, 1):
        made = Trainer(recipe(*options), images(("a", "b")), OneOfTwo(rank))
        spy = spied(made)
        made.train_step(next(made.batches()))
        dropped.append(spy.labels[0].sum(1) == 0)
    assert not torch.equal(*dropped)
