"""Runs of several phases: their settings, their borders, and resuming inside of each."""

from __future__ import annotations

import json
import math
import time

import pytest
import tomli_w
import torch

import ebmctl
from ebmctl.config import conversion, registry
from ebmctl.config import recipe as recipes
from ebmctl.config.registry import Entry
from ebmctl.core.objective import Objective
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.training.folder import RunFolder
from ebmctl.training.trainer import fit
from tests.test_run import check_resuming, finish, images, recipe, trainer

MATCHING = 'objective={name="energy-matching"}, optimizer={lr=1e-3, decay="cosine", ema=0.5}'
TWO = f"phases=[{{share=0.5, {MATCHING}}}, {{share=0.5}}]"
BOTH = 'phases=[{share=1.0, objective={name="energy-matching", cd_weight=0.1, steps=2}}]'


def test_a_phase_starts_from_the_recipe(tmp_path):
    made = recipe(TWO)
    first, second = made.schedule
    assert (first.objective.name, second.objective) == ("energy-matching", made.objective)
    assert (first.optimizer.lr, first.optimizer.ema, first.optimizer.batch_size) == (1e-3, 0.5, 8)
    assert second.optimizer == made.optimizer
    path = tmp_path / "recipe.toml"
    path.write_text(tomli_w.dumps(made.to_mapping()))
    assert recipes.from_mapping(conversion.read_toml(path)) == made
    assert recipe(TWO, "phases.1.optimizer.lr=7.0").schedule[1].optimizer.lr == 7.0
    assert recipe(TWO, 'phases.1.objective.start="noise"').schedule[1].objective.options.start == "noise"


def test_which_phase():
    made = recipe("phases=[{share=0.2}, {share=0.3}, {share=0.5}]")
    found = [made.phase_at(progress) for progress in (0.0, 0.1, 0.2, 0.5, 0.75, 1.0)]
    assert [phase for phase, _ in found] == [0, 0, 1, 2, 2, 2]
    assert [within for _, within in found] == pytest.approx([0, 0.5, 0, 0, 0.5, 1])


def test_phases_run_with_their_settings_and_leave_no_jump_in_the_weights():
    made = trainer(TWO)
    lines, before = [], {}
    for event in fit(made):
        lines.append(event.values)
        if event.step == 3:
            before = {k: v.clone() for k, v in made.network.state_dict().items()}
            averaged = {k: v.clone() for k, v in made.ema.state_dict().items()}
            assert made.advance(0.5)
            assert all(torch.equal(v, made.network.state_dict()[k]) for k, v in before.items())
            assert all(torch.equal(v, made.ema.state_dict()[k]) for k, v in averaged.items())
    assert [line["phase"] for line in lines] == [0, 0, 0, 1, 1, 1]
    assert [line["lr"] for line in lines] == pytest.approx(
        [1e-3 * (1 + math.cos(math.pi * part)) / 2 for part in (0, 1 / 3, 2 / 3)] + [made.recipe.optimizer.lr] * 3
    )
    assert "loss_matching" in lines[0]
    assert "energy_difference" not in lines[0]
    assert "loss_kl" in lines[3]


@pytest.mark.parametrize("change", [TWO, BOTH])
@pytest.mark.parametrize("stop", [2, 5])
def test_resume_inside_of_either_phase(tmp_path, change, stop):
    check_resuming(tmp_path / "run", change, stop)


def test_phases_by_time(tmp_path):
    made = trainer(TWO, 'run.phases_by="time"', "run.steps=100000")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    began = time.monotonic()
    assert finish(made, folder, seconds=2.0).reason == "time"
    assert time.monotonic() - began < 20
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["phase"] for line in lines] == sorted(line["phase"] for line in lines)
    shares = [sum(line["seconds"] for line in lines if line["phase"] == phase) for phase in (0, 1)]
    assert shares[0] / sum(shares) == pytest.approx(0.5, abs=0.25)
    again = trainer(TWO, 'run.phases_by="time"', "run.steps=100000")
    folder.load_checkpoint(again)
    finish(again, folder, seconds=0.2)
    assert again.phase == 1  # the clock of a resumed run goes on in the phase that it was in


def test_sampling_by_the_flow_travels_with_the_weights(tmp_path):
    made = trainer(BOTH, "flow.steps=5", "flow.time=0.5", "sampling.rounds=0", "sampling.final_steps=0")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    model = ebmctl.load(folder.path)
    drawn = ebmctl.sample(model, 3)
    assert drawn.shape == (3, 1, 8, 8)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(drawn, ebmctl.sample(model, 3))
    assert not torch.equal(drawn, ebmctl.sample(model, 3, flow_steps=2))
    assert list((folder.path / "samples").iterdir())
    with pytest.raises(UsageError, match="steps must be at least 0, not -1"):
        ebmctl.sample(model, 3, flow_steps=-1)


def test_previews_are_drawn_where_there_are_no_negative_samples(tmp_path):
    change = 'phases=[{share=1.0, objective={name="energy-matching"}}]'
    made = trainer(change, "flow.steps=2", 'data.label="class"', data=images(("a", "b")))
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    assert [p.name for p in sorted((folder.path / "samples").iterdir())] == [
        "step-000000003.png",
        "step-000000006.png",
    ]
    assert torch.equal(made.generator.get_state(), _generator_after(change))


def _generator_after(change):
    """Of a run without previews: they do not touch the run's random numbers."""
    made = trainer(change, 'data.label="class"', data=images(("a", "b")))
    for _ in fit(made):
        pass
    return made.generator.get_state()


def test_plain_contrastive_divergence():
    metrics = next(iter(fit(trainer('objective.name="cd"')))).values
    assert "loss_cd" in metrics
    assert "loss_kl" not in metrics


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["phases=[{share=0.5}, {share=0.4}]"], "the shares of the phases add up to 0.9, not to 1"),
        (["phases=[{share=0.5}, {}]"], "phases.1: share must be above 0"),
        (["phases=3"], "phases must be a list of tables"),
        (["phases=[3]"], "phases must be a list of tables"),
        (['phases=[{share=1.0, objectiv={name="cd"}}]'], "did you mean 'phases.0.objective'"),
        (['phases=[{share=1.0, objective="cd"}]'], "phases.0.objective must be a table"),
        (['phases=[{share=1.0, objective={name="energy-matchin"}}]'], "did you mean 'energy-matching'"),
        (['phases=[{share=1.0, objective={name="cd", kl_loss=false}}]'], "unknown key 'phases.0.objective.kl_loss'"),
        ([TWO, "phases.2.share=0.1"], "phases.2.share: the list has 2 items"),
        ([TWO, "phases.one.share=0.1"], "the list has 2 items, numbered from 0; there is no one"),
        (["sampling.rounds=0", "sampling.final_steps=0"], "add up to no step at all"),
        (["flow.time=0.0"], "flow: time must be above 0"),
    ],
)
def test_bad_phases_are_named(changes, message):
    with pytest.raises(UsageError) as caught:
        recipe(*changes)
    assert message in str(caught.value)


def test_an_objective_that_needs_labels(monkeypatch):
    """What a later phase lacks is said before the first one starts."""

    class Needy(Objective):
        needs_labels = True

        def __init__(self, *_):
            pass

    real = registry.find
    needy = Entry("objective", "needy", Needy, "", "ebmctl-needy", "1.0")
    monkeypatch.setattr(registry, "find", lambda kind, name: needy if name == "needy" else real(kind, name))
    change = 'phases=[{share=0.5}, {share=0.5, objective={name="needy"}}]'
    with pytest.raises(UsageError, match="the objective 'needy' needs labels: give --label"):
        trainer(change)
    assert trainer(change, 'data.label="class"', data=images(("a", "b"))).labels
    needy = Entry("objective", "needy", lambda *_: {}, "", "ebmctl-needy", "1.0")
    with pytest.raises(EbmctlError, match=r"the objective 'needy' of ebmctl-needy 1\.0 did not return an Objective"):
        trainer(change)


def test_optimal_pairing_without_scipy(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install 'ebmctl\[matching\]'"):
        trainer(BOTH)
