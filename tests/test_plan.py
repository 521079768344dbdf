"""How images are drawn, as a value; and what models of before say of it and of composing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import ebmctl
from ebmctl.config import recipe as recipes
from ebmctl.core.energy import Conditioned
from ebmctl.core.noise import seeded
from ebmctl.errors import UsageError
from ebmctl.models.sampling import draw, moments
from tests.core.quadratic import Quadratic

SMALL = ["data.size=4", "data.channels=1", "sampling.rounds=2", "sampling.steps=3", "sampling.final_steps=4"]


def plan(*changes: str):
    return recipes.resolve("noise", None, [*SMALL, *changes], {}).sampling_plan()


def test_a_plan_is_what_the_recipe_says_but_for_what_is_given():
    usual = plan("flow.steps=7")
    assert (usual.shape, usual.lengths) == (
        (1, 4, 4),
        {"flow_steps": 7, "rounds": 2, "steps": 3, "final_steps": 4},
    )
    assert usual.changed() == usual.changed(rounds=None, sampler="langevin", sampler_options={}) == usual
    other = usual.changed(rounds=0, final_steps=9, sampler_options={"noise": 0.5})
    assert other.lengths == {**usual.lengths, "rounds": 0, "final_steps": 9}
    assert (other.sampler.options.noise, other.sampler.options.step_size) == (0.5, usual.sampler.options.step_size)
    assert replace(other, sampler=usual.sampler, rounds=usual.rounds) == usual


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": -1}, "rounds must be at least 0"),
        ({"rounds": 0, "final_steps": 0}, "add up to no step at all"),
        ({"sampler": "langvin"}, "did you mean 'langevin'"),
        ({"sampler_options": {"noize": 1.0}}, r"did you mean 'sampler\.noise'"),
    ],
)
def test_what_no_plan_has_is_said(changes, message):
    with pytest.raises(UsageError, match=message):
        plan().changed(**changes)


def test_what_is_shown_is_what_happens_less_augmentations_and_most_of_the_flow():
    energy = Quadratic(1.0, torch.full((1, 4, 4), 0.5))
    long = plan("flow.steps=50", "sampler.step_size=0.1")
    every = list(moments(energy, long, 3, seeded(5)))
    assert [m.after for m in every] == [
        *["noise", *["flow"] * 50, "augmentation", "round", "augmentation", "round", "final steps"],
    ]
    shown = list(draw(energy, long, 3, seeded(5)))
    kept = [m for m in every if m.after != "augmentation" and (m.after != "flow" or m.number in long.shown_steps)]
    assert len(shown) == len(kept) == long.frames == 1 + 20 + 2 + 1
    assert all(torch.equal(frame, moment.images) for frame, moment in zip(shown, kept, strict=True))


def test_no_images_can_not_be_drawn():
    with pytest.raises(UsageError, match="at least 1, not 0"):
        next(draw(Quadratic(1.0, torch.zeros(1, 4, 4)), plan(), 0, seeded(0)))


def test_one_label_is_for_any_number_of_images():
    network = torch.nn.Module()
    seen = []
    network.terms = lambda x, label: seen.append(label) or x.flatten(1)[:, :1]
    one = torch.tensor([[0.0, 1.0]])
    given = Conditioned(network, one)
    for count in (1, 3):
        given.terms(torch.rand(count, 1, 2, 2))
        assert torch.equal(seen[-1], one.expand(count, -1))
    assert given[2:5] is given
    each = Conditioned(network, torch.eye(2))
    assert torch.equal(each[1:].label, torch.eye(2)[1:])
    each.terms(torch.rand(2, 1, 2, 2))
    assert torch.equal(seen[-1], torch.eye(2))


@pytest.mark.parametrize(
    ("network", "objective", "strength", "temperature"),
    [
        ({}, {}, 1.0, 1.0),
        ({}, {"label_weight": 0.02}, 4.0, 0.0625),
        ({"label_head": 16}, {"label_weight": 1.0, "label_temperature": 0.5}, 32.0, 0.5),
    ],
)
def test_a_model_of_before_composes_as_it_did(network, objective, strength, temperature):
    """Before `compose` was a section of the recipe, the program decided by how labels had been trained."""
    values = {
        "network": {"name": "denoising", **network},
        "objective": {"name": "energy-matching", **objective},
    }
    made = recipes.from_mapping(recipes.migrated(values)).compose
    assert (made.strength, made.or_temperature) == (strength, temperature)
    own = {**values, "compose": {"strength": 2.0}}
    assert recipes.from_mapping(recipes.migrated(own)).compose.strength == 2.0


def test_the_shipped_concepts_say_how_strong_they_are():
    for name in ("faces-young", "objects-size"):
        model = ebmctl.load(name)
        assert model.source is not None
        assert (model.recipe.compose.strength, model.recipe.compose.or_temperature) == (32.0, 0.0625)
        document = json.loads((model.source / "config.json").read_text())
        assert document["labels"] == list(model.config.labels)
