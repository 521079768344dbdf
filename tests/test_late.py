"""Metrics that are read late, for many steps at once, as on a GPU: the run is the same as where each step is read."""

from __future__ import annotations

import json

import pytest
import torch

from ebmctl.core.noise import seeded
from ebmctl.errors import DivergedError
from ebmctl.training import trainer as training
from ebmctl.training.checkpoint import load_checkpoint
from ebmctl.training.folder import RunFolder
from ebmctl.training.loop import RolledBack, train
from ebmctl.training.packed import pack, unpack
from tests.test_guard import poison
from tests.test_phases import TWO
from tests.test_run import images, trainer

RUN = ("run.steps=12", "run.checkpoint_every=5", "run.preview_every=1000", "run.keep_checkpoints=100")
LABELS = ('data.label="class"', "data.label_dropout=0.5")
LATE_LABELS = (*LABELS, 'objective={name="energy-matching", pairing="independent", label_weight=0.1}')


def make(late, *changes):
    made = trainer(*RUN, *changes, data=images(("a", "b")))
    made.late = late
    return made


def run(made, path, **options):
    """Train in a new folder; returns it, and the events."""
    folder = RunFolder.create(path, made.recipe)
    return folder, list(train(made, folder, **{"seconds": None, "stopped": lambda: False, **options}))


def lines(folder):
    found = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def checkpoints(folder):
    return {path.name: load_checkpoint(path) for path in folder.checkpoints()}


def check_equal(one, other):
    """Two folders hold the same metrics and checkpoints."""
    assert [list(line) for line in lines(one)] == [list(line) for line in lines(other)]
    assert lines(one) == lines(other)
    mine, theirs = checkpoints(one), checkpoints(other)
    assert list(mine) == list(theirs)
    for name, (tensors, document) in mine.items():
        assert document == theirs[name][1]
        assert all(torch.equal(tensor, theirs[name][0][key]) for key, tensor in tensors.items()), name


@pytest.mark.parametrize("changes", [(), (TWO, "run.steps=14"), LABELS, LATE_LABELS])
def test_a_run_is_the_same(tmp_path, changes, monkeypatch):
    prompt, _ = run(make(1, *changes), tmp_path / "prompt")
    made, reads, inner = make(3, *changes), [], training.unpack
    monkeypatch.setattr(training, "unpack", lambda packed: [reads.append(len(packed)), inner(packed)][1])
    late, _ = run(made, tmp_path / "late")
    check_equal(prompt, late)
    assert reads == (
        [3, 2, 2, 3, 3, 1] if TWO in changes else [3, 2, 3, 2, 2]
    )  # before what is due, and the phase's end
    assert sum(reads) == made.step == len(lines(late))


def test_previews_and_scores_are_of_steps_that_were_read(tmp_path):
    made = make(5, "run.preview_every=3", "eval.every=4")
    seen = []

    def score(_):
        seen.append((made.step, len(made.unread)))
        return {"eval_score": 1.0}

    folder, _ = run(made, tmp_path / "run", score=score)
    assert seen == [(4, 0), (8, 0), (12, 0)]
    assert [line["step"] for line in lines(folder) if "eval_score" in line] == [4, 8, 12]
    assert [int(path.stem[5:]) for path in sorted((folder.path / "samples").iterdir())] == [3, 6, 9, 12]


@pytest.mark.parametrize("bad", [3, 4, 5, 7, 8, 10, 12])
def test_a_divergence_leads_back_to_the_same_checkpoint(tmp_path, bad, monkeypatch):
    saved, inner = [], RunFolder.write
    monkeypatch.setattr(RunFolder, "write", lambda self, state: [saved.append(state), inner(self, state)][1])
    folders, events = [], []
    for late in (1, 3):
        made = make(late)
        poison(made, {bad})
        folder, seen = run(made, tmp_path / str(late))
        folders.append(folder)
        events.append([event for event in seen if isinstance(event, RolledBack)])
        assert made.step == 12
    check_equal(*folders)
    assert events[0] == events[1]
    assert len(events[0]) == 1
    assert f"diverged at step {bad}:" in events[0][0].reason
    for state in saved:
        assert all(tensor.isfinite().all() for tensor in state.tensors.values())


@pytest.mark.parametrize("problem", ["NaN", "bound", "guard"])
def test_giving_up_keeps_what_was_read_and_the_last_good_state(tmp_path, problem, monkeypatch):
    written, messages = [], []
    for late in (1, 3):
        made = make(late, "guard.tries=0")
        if problem == "NaN":
            poison(made, set(range(7, 100)))
        elif problem == "bound":
            worsen(made, monkeypatch)
        else:
            run_away(made)
        folder = RunFolder.create(tmp_path / str(late), made.recipe)
        with pytest.raises(DivergedError, match="diverged at step 7") as caught:
            list(train(made, folder, seconds=None, stopped=lambda: False))
        written.append(lines(folder))
        messages.append(str(caught.value).replace(str(folder.path), ""))
        again = make(1)
        folder.load_checkpoint(again)
        assert again.step == 5
    assert messages[0] == messages[1]
    assert written[0] == written[1]
    assert [line["step"] for line in written[0]] == [1, 2, 3, 4, 5, 6, *([7] if problem == "guard" else [])]


def worsen(made, monkeypatch):
    """Energies of the seventh step that are out of bounds."""
    inner, calls = made.objective.losses, [0]

    def losses(*args):
        calls[0] += 1
        for term in inner(*args):
            logs = dict(term.logs)
            if calls[0] == 7 and "energy_data_scales" in logs:
                logs["energy_data_scales"] = logs["energy_data_scales"] - 1e6
            yield term._replace(logs=logs)

    monkeypatch.setattr(made.objective, "losses", losses)


def run_away(made):
    """An energy difference of the seventh step that the guard does not let pass."""
    inner = made.read

    def read():
        for metrics in inner():
            if metrics.step == 7:
                metrics.values["energy_difference"] = 1e6
            yield metrics

    made.read = read


def test_what_the_guard_finds_in_an_earlier_step_leads_back(tmp_path):
    folders = []
    for late in (1, 3):
        made = make(late, "guard.tries=1")
        run_away(made)
        folder = RunFolder.create(tmp_path / str(late), made.recipe)
        with pytest.raises(DivergedError, match="gave up after 1 tries"):
            list(train(made, folder, seconds=None, stopped=lambda: False))
        folders.append(folder)
    check_equal(*folders)
    (event,) = (line for line in lines(folders[1]) if "event" in line)
    assert (event["step"], event["from"]) == (5, 7)


def test_a_signal_and_the_clock_end_a_run_after_the_step(tmp_path):
    made = make(5)
    folder, (*_, end) = run(made, tmp_path / "signal", stopped=lambda: made.step == 7)
    assert (end.reason, end.step, len(lines(folder))) == ("interrupted", 7, 7)
    assert list(checkpoints(folder)) == ["step-000000000", "step-000000005", "step-000000007"]
    made = make(3)
    folder.load_checkpoint(made)
    list(train(made, folder, seconds=None, stopped=lambda: False))
    straight, _ = run(make(1), tmp_path / "straight")
    assert lines(folder) == lines(straight)
    last = [checkpoints(one)["step-000000012"][0] for one in (folder, straight)]
    assert all(torch.equal(tensor, last[1][name]) for name, tensor in last[0].items())
    _, (*_, end) = run(make(10**6, "run.steps=100000", "run.checkpoint_every=100000"), tmp_path / "t", seconds=0.5)
    assert end.reason == "time"


def test_seconds_are_those_of_the_steps_read_together_over_their_number(monkeypatch):
    made, clock = make(3), iter([10.0, 11.0, 12.0, 16.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    source = made.batches()
    for _ in range(3):
        made.launch(next(source))
    assert [metrics.values["seconds"] for metrics in made.read()] == [2.0, 2.0, 2.0]
    assert list(made.read()) == []


def test_a_divergence_in_another_process_ends_at_its_step(monkeypatch):
    made = make(3)
    source = made.batches()
    for _ in range(3):
        made.launch(next(source))
    monkeypatch.setattr(training, "highest", lambda _, own: max(own, -1.0))  # the other's second step is bad
    found = made.read()
    assert next(found).step == 1
    with pytest.raises(DivergedError, match="at step 2: in another process"):
        next(found)


def test_what_is_unread_is_not_saved_and_is_forgotten_with_the_state(tmp_path):
    made = make(3)
    state = made.state()
    made.launch(next(made.batches()))
    with pytest.raises(AssertionError):
        made.state()
    made.load_state({name: tensor.clone() for name, tensor in state[0].items()}, state[1])
    assert (made.step, made.unread) == (0, [])


def test_packed_values_come_back_as_they_were():
    draw = seeded(0)
    values = {
        "step": 3,
        "a": torch.randn((), generator=draw),
        "count": torch.tensor(2**40 + 1),
        "scales": torch.randn(3, generator=draw),
        "exact": torch.rand((), generator=draw, dtype=torch.float64),
        "grid": torch.randn(2, 2, generator=draw),
        "none": None,
        "flag": torch.tensor(True),
        "empty": torch.zeros(0),
    }
    expected = {name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in values.items()}
    other = {"b": torch.randn((), generator=draw), "count": torch.tensor(7)}
    packed = [pack(values), pack(other)]
    values["a"].zero_()  # a value is that of the time when it was packed
    first, second = unpack(packed)
    assert first == expected
    assert list(first) == list(expected)
    assert second == {"b": other["b"].item(), "count": 7}
    assert unpack([]) == []
