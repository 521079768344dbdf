"""How much of a training step is computed at a time, by the memory of a GPU: here one is told, and runs out."""

from __future__ import annotations

import weakref

import pytest
import torch

from ebmctl.training import trainer as trainers
from tests.test_run import trainer

CHANGES = ("objective.entropy_after=0", "objective.kl_samples=6")


def filled(made):
    """A trainer with what a GPU's has, and images in the buffer."""
    made._fit_memory()
    images = torch.rand(20, 1, 8, 8, generator=made.generator, device=made.generator.device)
    made.objective.buffer.add(images, made.generator)
    return made


def failing(made, monkeypatch, most):
    """The way back runs out of memory for more samples than `most`; returns where the losses computed are seen."""
    inner, seen = trainers.accumulate, []

    def accumulate(terms, parameters):
        def watched():
            for term in terms:
                seen.append(weakref.ref(term.loss))
                if term.group == "kl" and made.objective.chunk > most:
                    raise torch.OutOfMemoryError
                yield term

        return inner(watched(), parameters)

    monkeypatch.setattr(trainers, "accumulate", accumulate)
    return seen


def test_a_step_without_memory_is_that_of_a_smaller_chunk(monkeypatch):
    lines, alive = [], []
    made, small = filled(trainer(*CHANGES)), filled(trainer(*CHANGES))
    small.objective.fitted = 2
    assert made.objective.chunk == 6
    seen = failing(made, monkeypatch, 2)
    made.say = lambda line: (lines.append(line), alive.extend(ref() for ref in seen))
    for one in (made, small):
        source = one.batches()
        for _ in range(2):
            one.train_step(next(source))
    assert lines == [f"out of memory: now the KL loss takes {chunk} samples at a time" for chunk in (3, 2)]
    assert alive == [None, None, None]  # what was computed is freed before it is tried again
    for name, tensor in small.state()[0].items():
        assert torch.equal(made.state()[0][name], tensor), name


def test_without_less_to_take_the_error_is_raised(monkeypatch):
    made = filled(trainer(*CHANGES, "objective.kl_chunk=4"))
    failing(made, monkeypatch, 3)
    with pytest.raises(torch.OutOfMemoryError):
        made.train_step(next(made.batches()))


def test_only_on_a_gpu_the_memory_is_asked():
    made = trainer("objective.kl_samples=6")
    assert made.objective.fitted == (6 if made.accelerator.device.type == "cuda" else None)
