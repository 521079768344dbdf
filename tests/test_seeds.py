"""Where random numbers come from: the same seed gives the same run, and nothing that should differ has the same."""

from __future__ import annotations

import itertools

import pytest
import torch

from ebmctl.core.energy import frozen
from ebmctl.evaluation import training
from ebmctl.evaluation.generation import Generation
from ebmctl.models.folder import ModelConfig, build_network
from ebmctl.models.model import Model
from ebmctl.training.trainer import Trainer, fit
from tests.spies import OneOfTwo
from tests.test_run import images, recipe, trainer
from tests.test_training_score import scored


def test_the_weights_come_from_the_runs_seed_alone():
    state = torch.get_rng_state()
    made = trainer("run.seed=3")
    assert torch.equal(torch.get_rng_state(), state)  # who trains keeps their own random numbers
    torch.manual_seed(3)
    expected = build_network(made.recipe.network, 1, 0).state_dict()
    for network in (made.network, made.ema):
        assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in expected.items())
    other = trainer("run.seed=4").network.state_dict()
    assert not torch.equal(other["scales.0.stem.weight"], expected["scales.0.stem.weight"])


def test_each_seed_process_and_try_has_random_numbers_of_its_own():
    def drawn(seed: int, rank: int, attempt: int) -> float:
        made = Trainer(recipe(f"run.seed={seed}"), images(), OneOfTwo(rank))
        torch.rand(seed + 1, generator=made.generator)  # where a try begins does not matter
        if attempt:
            made.try_again(attempt)
        return float(torch.rand((), generator=made.generator, dtype=torch.float64))

    every = list(itertools.product((0, 1, 2), (0, 1), (0, 1, 2, 3)))
    found = [drawn(*each) for each in every]
    assert len(set(found)) == len(every)
    assert found == [drawn(*each) for each in every]


def test_a_steps_noise_comes_from_the_generator_that_a_try_seeds_anew():
    def samples(seed: int, attempt: int) -> float:
        made = trainer(f"run.seed={seed}", "guard.lr_factor=1.0")
        made.network.load_state_dict(trainer().network.state_dict())  # all else is the same
        made.try_again(attempt)
        return next(fit(made)).values["energy_samples"]

    found = [samples(seed, attempt) for seed in (0, 1) for attempt in (0, 1, 2)]
    assert len(set(found)) == len(found)
    assert samples(1, 2) == found[-1]


def noisy(*changes: str, labels: tuple[str, ...] = ()) -> Model:
    """A model whose images are hardly more than the noise that they start in."""
    made = recipe("sampling.rounds=0", "sampling.final_steps=1", "sampler.step_size=1e-6", *changes)
    return Model(ModelConfig(made, labels, {}), frozen(build_network(made.network, 1, len(labels))))


@pytest.mark.parametrize("change", ["flow.steps=0", "flow.steps=1"])
def test_no_two_images_that_are_measured_come_from_one_noise(change):
    """A batch that repeats another's noise would count its images again: a set of n would be a set of fewer."""
    model = noisy(change)
    plan = model.recipe.sampling_plan()
    pixels = [Generation(plan, 9, seed, 4).pixels(model, None, lambda *_: None) for seed in (0, 1)]
    drawn = torch.cat([batch for plan in pixels for batch in plan])
    assert len(drawn) == 18
    assert len(torch.unique(drawn, dim=0)) == 18


@pytest.mark.parametrize("change", ["data.label=", "data.label=class"])
def test_no_two_images_of_the_training_score_come_from_one_noise(monkeypatch, change):
    monkeypatch.setattr(training, "BATCH", 4)
    score, model = scored(change, "sampling.rounds=0", "sampling.final_steps=1")
    model.network.ignore_labels()  # so that equal noise would end in equal images
    drawn = score._drawn(model)
    assert len(drawn) == 60
    assert len(torch.unique(drawn, dim=0)) == 60
