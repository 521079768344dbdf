"""Training runs: their folders, resuming, and how they end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

import ebmctl
from ebmctl.config import recipe as recipes
from ebmctl.config.dataset import DatasetName
from ebmctl.config.schema import Recipe
from ebmctl.data.base import TensorImages
from ebmctl.errors import DivergedError, EbmctlError, UsageError
from ebmctl.training import loop as run
from ebmctl.training.folder import RunFolder, latest_run, next_run
from ebmctl.training.trainer import Trainer, fit
from tests.device import DEVICE

TINY = [
    "data.size=8",
    "data.channels=1",
    "network.width=4",
    "network.blocks=[0]",
    "network.multipliers=[1]",
    "network.scales=1",
    "network.attention=0",
    "objective.steps=2",
    "objective.buffer_size=32",
    "optimizer.batch_size=8",
    "optimizer.ema=0.9",
    "optimizer.clip=0.01",
    "run.steps=6",
    "run.checkpoint_every=2",
    "run.preview_every=3",
    "sampling.rounds=2",
    "sampling.steps=2",
    "sampling.final_steps=1",
]


def recipe(*changes: str) -> Recipe:
    return recipes.resolve("noise", None, [*TINY, *changes], {})


def images(names=(), exclusive=True) -> TensorImages:
    draw = torch.Generator().manual_seed(0)
    labels = torch.eye(len(names))[torch.arange(20) % len(names)] if names else None
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=draw)
    return TensorImages(pixels, labels, names, exclusive)


def trainer(*changes: str, data: TensorImages | None = None, **options) -> Trainer:
    made = Trainer(recipe(*changes), data or images(), Accelerator(cpu=DEVICE.type == "cpu"), **options)
    made.late = 1  # on a GPU too
    return made


def finish(made: Trainer, folder: RunFolder, **options) -> run.Finished:
    *_, last = run.train(made, folder, **{"seconds": None, "stopped": lambda: False, **options})
    assert isinstance(last, run.Finished)
    return last


def test_run_folder(tmp_path):
    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finished = finish(made, folder)
    assert (finished.reason, finished.step) == ("steps", 6)
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "best", "checkpoints", "config.toml", "log.txt", "metrics.jsonl", "model", "samples",
    ]  # fmt: skip
    lines = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    for line in lines:
        assert line["energy_difference"] == pytest.approx(line["energy_data"] - line["energy_samples"])
        assert len(line["energy_data_scales"]) == 1
        assert line["gradient_cd"] > 0
        assert line["gradient_kl"] > 0
        assert {"loss_cd", "loss_kl", "loss_regularizer", "gradient", "buffer", "seconds"} <= set(line)
    assert lines[-1]["buffer"] == 32
    assert "loss_entropy" in lines[-1]
    assert [p.name for p in folder.checkpoints()] == ["step-000000004", "step-000000006"]
    assert [p.name for p in (folder.path / "samples").iterdir()]
    assert not list(folder.path.rglob(".*"))  # nothing temporary is left
    assert RunFolder.open(folder.path)[1] == made.recipe


def test_model_folder_gives_the_averaged_network(tmp_path):
    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    assert sorted(p.name for p in folder.model.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    x = torch.rand(3, 1, 8, 8, device=DEVICE)
    for reference in (folder.path, folder.model):
        model = ebmctl.load(reference)
        assert torch.equal(model.energy(x), made.ema(x))
        assert not torch.equal(model.energy(x), made.network(x))
    assert model.recipe == made.recipe
    assert torch.equal(ebmctl.sample(model, 4, seed=1), ebmctl.sample(model, 4, seed=1))
    assert not torch.equal(ebmctl.sample(model, 4, seed=1), ebmctl.sample(model, 4, seed=2))


def check_resuming(path, change, stop, **options):
    """Stopped after some steps and resumed, a run ends with the state and the metrics of one that was not."""
    straight = trainer(change, **options)
    metrics = [event.values for event in fit(straight)]
    first = trainer(change, **options)
    folder = RunFolder.create(path, first.recipe)
    calls = iter([False] * (stop - 1) + [True])
    assert finish(first, folder, stopped=lambda: next(calls)).reason == "interrupted"
    second = trainer(change, **options)
    folder.load_checkpoint(second)
    assert second.step == stop
    finish(second, folder)
    for name, tensor in straight.state()[0].items():
        assert torch.equal(tensor, second.state()[0][name]), name
    resumed = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    for a, b in zip(metrics, resumed, strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b


@pytest.mark.parametrize("change", ["run.seed=0", 'objective.buffer_policy="fifo"', "optimizer.ema=0.0"])
def test_resume_goes_on_exactly(tmp_path, change):
    check_resuming(tmp_path / "run", change, 3)


def test_resume_cuts_metrics_back_to_the_checkpoint(tmp_path):
    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    for item in folder.checkpoints()[-1].iterdir():
        item.unlink()
    folder.checkpoints()[-1].rmdir()
    again = trainer()
    folder.load_checkpoint(again)
    assert again.step == 4
    assert len(folder.metrics.read_text().splitlines()) == 4
    other = trainer("network.width=8")
    with pytest.raises(EbmctlError, match="does not match this run"):
        folder.load_checkpoint(other)


def test_a_run_is_not_resumed_on_another_kind_of_device():
    """A GPU's generator has a state of another size."""
    made, other = trainer(), trainer()
    tensors, document = made.state()
    before = other.network.state_dict()
    with pytest.raises(ValueError, match="another kind of device; resume with the --device of before"):
        other.load_state(tensors | {"rank0.generator": torch.zeros(16, dtype=torch.uint8)}, document)
    assert all(torch.equal(before[name], tensor) for name, tensor in other.network.state_dict().items())


@pytest.mark.parametrize("damage", ["cut", "flip", "document", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, damage):
    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    newest = folder.checkpoints()[-1]
    tensors, document = newest / "state.safetensors", newest / "state.json"
    content = bytearray(tensors.read_bytes())
    if damage == "cut":
        tensors.write_bytes(content[:-100])
    elif damage == "flip":
        content[-7] ^= 1
        tensors.write_bytes(content)
    elif damage == "document":
        document.write_text(document.read_text().replace('"step": 6', '"step": 5'))
    else:
        tensors.unlink()
    again = trainer()
    (line,) = folder.load_checkpoint(again)
    assert newest.name in line
    assert again.step == 4
    for checkpoint in folder.checkpoints():
        (checkpoint / "state.json").write_text("{")
    with pytest.raises(EbmctlError, match=r"has no checkpoint to resume from; .*step-000000004"):
        folder.load_checkpoint(again)


def test_the_best_model_is_that_of_the_smallest_difference_on_average_since_the_checkpoint_before(tmp_path):
    """Differences of either sign count against one another: the energies are to be equal, not the samples' lower."""
    made = trainer()
    inner, differences = made.read, iter([-1.0, -1.0, 3.0, -3.2, 0.5, 0.5])

    def read():
        for metrics in inner():
            metrics.values["energy_difference"] = next(differences)
            yield metrics

    made.read = read
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    assert ebmctl.load(folder.path / "best").config.provenance["steps"] == 4
    assert made.best == pytest.approx(0.1)


def test_ends_by_the_clock(tmp_path):
    made = trainer("run.steps=100000")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    assert finish(made, folder, seconds=0.5).reason == "time"
    assert 0 < made.step < 100000
    assert folder.checkpoints()


@pytest.mark.parametrize(("bound", "problem"), [("1e-9", "outside "), ("10", "NaN or infinite")])
def test_divergence_keeps_the_last_good_state(tmp_path, bound, problem):
    made = trainer(f"run.energy_bound={bound}")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    if problem == "NaN or infinite":
        with torch.no_grad():
            made.network.scales[0].head.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match=f"(?s)at step 1: .*{problem}.*lower optimizer.lr") as caught:
        finish(made, folder)
    assert "\n" not in str(caught.value)
    assert [p.name for p in folder.checkpoints()] == ["step-000000000"]
    assert "diverged" in (folder.path / "log.txt").read_text()
    assert (len(made.objective.buffer) == 0) == (problem == "NaN or infinite")  # what it made is not kept


def test_an_existing_run_is_not_touched(tmp_path):
    RunFolder.create(tmp_path / "run", recipe())
    with pytest.raises(EbmctlError, match="already exists"):
        RunFolder.create(tmp_path / "run", recipe())


def test_next_and_latest_run(tmp_path):
    digits, pictures = DatasetName.parse("digits"), DatasetName.parse("folder:/a/My photos!/")
    assert next_run(tmp_path, digits).name == "00000-digits"
    RunFolder.create(tmp_path / "00000-digits", recipe())
    assert next_run(tmp_path, pictures).name == "00001-My-photos"
    assert latest_run(tmp_path, digits).name == "00000-digits"
    with pytest.raises(EbmctlError, match="no run of noise"):
        latest_run(tmp_path, DatasetName.parse("noise"))


def test_conditional_models(tmp_path):
    made = trainer("data.label=b", data=images(("a", "b", "c"), exclusive=False))
    assert made.labels == ("not b", "b")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    model = ebmctl.load(folder.path)
    x = torch.rand(2, 1, 8, 8, device=DEVICE)
    assert not torch.equal(model.energy(x, "b"), model.energy(x, "not b"))
    assert ebmctl.sample(model, 2, label="b").shape == (2, 1, 8, 8)
    with pytest.raises(UsageError, match="give one of its labels: not b, b"):
        model.energy(x)
    with pytest.raises(UsageError, match="unknown label"):
        model.energy(x, "d")
    assert trainer("data.label=class", data=images(("a", "b", "c"))).labels == ("a", "b", "c")
    with pytest.raises(UsageError, match="did you mean 'b'"):
        trainer("data.label=bb", data=images(("aaa", "b")))
    with pytest.raises(UsageError, match="has no labels"):
        trainer("data.label=b")


def test_replaced_settings_are_checked():
    with pytest.raises(UsageError, match="steps"):
        recipes.with_steps(recipe(), 0)
    assert recipes.with_steps(recipe(), 9).run == replace(recipe().run, steps=9)
