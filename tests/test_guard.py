"""The divergence guard: injected faults, rolling back, giving up."""

from __future__ import annotations

import json

import pytest
import torch

from ebmctl.config.schema import GuardConfig
from ebmctl.errors import DivergedError, UsageError
from ebmctl.training.folder import RunFolder
from ebmctl.training.gradients import check_bound
from ebmctl.training.guard import Guard, nearest_distance, standard_deviation
from ebmctl.training.loop import Finished, RolledBack, train
from ebmctl.training.trainer import fit
from tests.test_run import recipe, trainer


def poison(made, steps):
    """Break the network's weights right before each of some training steps, counted over all attempts."""
    inner, calls = made.launch, [0]

    def step(batch):
        calls[0] += 1
        if calls[0] in steps:
            with torch.no_grad():
                made.network.scales[0].head.bias.fill_(float("nan"))
        inner(batch)

    made.launch = step


def events(made, folder):
    return list(train(made, folder, seconds=None, stopped=lambda: False))


def test_rolls_back_and_finishes(tmp_path):
    made = trainer()
    poison(made, {4, 6})
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    seen = events(made, folder)
    first, second = (event for event in seen if isinstance(event, RolledBack))
    assert first.step == 2
    assert "diverged at step 4: the energies are NaN or infinite" in first.reason
    assert "back to step 2 with 0.5 times the learning rate" in first.reason
    assert second.step == 0  # what the checkpoint at step 2 led to twice may have begun before it
    assert isinstance(seen[-1], Finished)
    assert seen[-1].step == 6
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines if "event" not in line] == [1, 2, 3, 4, 5, 6]
    found = [line for line in lines if "event" in line]
    assert [(line["event"], line["attempt"], line["from"]) for line in found] == [
        ("rollback", 1, 3),
        ("rollback", 2, 3),
    ]
    assert lines[-1]["lr"] == pytest.approx(made.recipe.optimizer.lr / 4)
    assert all(torch.isfinite(p).all() for p in made.network.parameters())


def test_other_random_numbers_after_a_roll_back(tmp_path):
    straight = [event.values["energy_samples"] for event in fit(trainer("guard.lr_factor=1.0"))]
    made = trainer("guard.lr_factor=1.0")
    poison(made, {4})
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    events(made, folder)
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    again = [line["energy_samples"] for line in lines if "event" not in line]
    assert again[:2] == straight[:2]
    assert again[2] != straight[2]


def test_gives_up_with_the_last_good_model(tmp_path):
    made = trainer("guard.tries=2")
    poison(made, set(range(5, 100)))
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    with pytest.raises(DivergedError, match=r"gave up after 2 tries; the last good state is in .*lower optimizer.lr"):
        events(made, folder)
    again = trainer("guard.tries=2")
    folder.load_checkpoint(again)
    assert all(torch.isfinite(p).all() for p in again.ema.parameters())
    assert (folder.model / "model.safetensors").is_file()
    assert "gave up" in (folder.path / "log.txt").read_text()


def test_resume_after_a_roll_back_is_exact(tmp_path):
    straight = trainer()
    poison(straight, {3})
    whole = RunFolder.create(tmp_path / "whole", straight.recipe)
    events(straight, whole)
    first = trainer()
    poison(first, {3})
    folder = RunFolder.create(tmp_path / "run", first.recipe)
    calls = iter([False] * 4 + [True])
    *_, end = train(first, folder, seconds=None, stopped=lambda: next(calls))
    assert end.reason == "interrupted"
    second = trainer()
    folder.load_checkpoint(second)
    events(second, folder)
    for name, tensor in straight.state()[0].items():
        assert torch.equal(tensor, second.state()[0][name]), name
    a, b = ([json.loads(line) for line in f.metrics.read_text().splitlines()] for f in (whole, folder))
    for one, other in zip(a, b, strict=True):
        one.pop("seconds", None), other.pop("seconds", None)
        assert one == other


def test_what_the_guard_sees(generator):
    samples = torch.rand(8, 1, 4, 4, generator=generator)
    guard = Guard(GuardConfig(window=2, difference=1.0, distance=0.01), [])
    assert guard.problem({"energy_difference": 1.8}, samples).startswith("the energy difference is running away")
    assert guard.problem({"energy_difference": 0.1}, samples) is None
    assert guard.problem({}, None) is None
    assert "have collapsed (standard deviation" in guard.problem({}, samples[:1].expand(8, -1, -1, -1))
    pairs = samples[[0, 0, 1, 1]]
    assert "distance to the nearest 0" in guard.problem({}, pairs)
    assert Guard(GuardConfig(spread=0.0, difference=0.0), []).problem({"energy_difference": 1e9}, pairs[:2]) is None
    past = [{"energy_difference": 9.0}, {"event": "rollback"}]
    assert Guard(GuardConfig(), past).problem({"energy_difference": 2.0}, None)


def test_the_difference_is_averaged_over_the_window_and_may_run_away_either_way():
    for sign in (1, -1):
        guard = Guard(GuardConfig(window=3, difference=1.0), [])
        problems = [
            guard.problem({"energy_difference": sign * value}, None) for value in (0.9, 0.9, 1.5, 0.3, 0.3, 2.5, 0.3)
        ]
        means = (0.9, 0.9, 1.1, 0.9, 0.7, 3.1 / 3, 3.1 / 3)  # of the last three at most
        assert [text is not None for text in problems] == [mean > 1 for mean in means]
        assert f"({sign * 1.1:+.3g} on average over 3 steps)" in problems[2]


def test_after_a_roll_back_the_guard_forgets_what_led_to_it(tmp_path, monkeypatch):
    """Else the differences of the steps that are taken back would take the run back again at once."""
    monkeypatch.setattr("ebmctl.training.guard.standard_deviation", lambda _: 1.0)
    made = trainer("guard.difference=10.0", "guard.window=6", "guard.tries=1")
    inner, calls = made.read, [0]

    def read():
        for metrics in inner():
            calls[0] += 1
            metrics.values["energy_difference"] = 100.0 if calls[0] == 3 else 0.0
            yield metrics

    made.read = read
    seen = events(made, RunFolder.create(tmp_path / "run", made.recipe))
    assert sum(isinstance(event, RolledBack) for event in seen) == 1
    assert seen[-1].step == 6


def test_the_bound_is_for_the_mean_energy_of_a_scale_on_either_side():
    for energies in ([9.9, 9.9, 9.9], [29.0, 0.0, 0.0], [-29.0, 0.0, 0.0]):
        check_bound(torch.tensor(energies), 10.0)
    for energies in ([10.1, 10.1], [-10.1, -10.1], [-31.0, 0.0, 0.0]):
        with pytest.raises(DivergedError, match=r"outside \[-10, 10\]"):
            check_bound(torch.tensor(energies), 10.0)


def test_measures_of_collapse():
    black_and_white = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4)
    assert nearest_distance(black_and_white) == pytest.approx(1.0)
    assert standard_deviation(black_and_white) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(("change", "message"), [("guard.tries=-1", "tries"), ("guard.lr_factor=0.0", "lr_factor")])
def test_bad_settings(change, message):
    with pytest.raises(UsageError, match=message):
        recipe(change)
