"""Run folders: everything that a training run writes."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor

from ebmctl import __version__
from ebmctl.config import conversion, registry
from ebmctl.config.dataset import DatasetName
from ebmctl.config.recipe import from_mapping, migrated
from ebmctl.config.schema import Recipe
from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_file, duplicate, read_json
from ebmctl.models.card import model_card
from ebmctl.models.folder import ModelConfig, save_model
from ebmctl.models.form import Form
from ebmctl.models.metrics import FILE, Metrics, kept_bytes
from ebmctl.models.model import Model, sample
from ebmctl.models.pictures import save_grid
from ebmctl.training.checkpoint import load_checkpoint, save_checkpoint
from ebmctl.training.trainer import Trainer


@dataclass(frozen=True)
class Saved:
    """All that is written of a run at one step, copied: training may go on while it is written."""

    tensors: Mapping[str, Tensor]
    document: Mapping[str, Any]
    config: ModelConfig
    model: Mapping[str, Tensor]
    best: bool


def snapshot(trainer: Trainer, seconds: float, difference: float | None, best: bool) -> Saved:
    """Copy the state of a trainer that has run for some seconds; all processes take part."""
    tensors, document = trainer.state()
    provenance = {
        "ebmctl": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "steps": trainer.step,
        "seconds": round(seconds, 1),
        "energy_difference": difference,
        "form": str(trainer.form),
    }
    return Saved(
        {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()},
        document,
        ModelConfig(trainer.recipe, trainer.labels, provenance),
        {name: tensor.detach().to("cpu", copy=True) for name, tensor in trainer.averaged().state_dict().items()},
        best,
    )


class RunFolder:
    """`config.toml`, `metrics.jsonl`, `samples/`, `checkpoints/`, `model/` and `log.txt` of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.metrics = path / FILE

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise EbmctlError where a new run folder can't be created: checked before the data is loaded."""
        if path.exists():
            raise EbmctlError(f"{path} already exists; resume it with --resume {path}, or choose another --out")
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise EbmctlError(f"can't create the run folder {path}: {above} is not a writable folder")

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> RunFolder:
        """Make a new run folder; raises EbmctlError where there is one already, or it can't be written."""
        folder = cls(path)
        cls.check_new(path)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise EbmctlError(f"can't create the run folder {path}: {error.strerror}") from error
        with atomic_file(path / "config.toml") as temporary:
            temporary.write_text(tomli_w.dumps(recipe.to_mapping()), encoding="utf-8")
        folder.metrics.touch()
        folder.log("created")
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, Recipe]:
        """An existing run and its recipe; raises EbmctlError where a plugin is missing that it was trained with."""
        if not (path / "config.toml").is_file():
            raise EbmctlError(f"{path} is not a run folder: it has no config.toml")
        folder = cls(path)
        listed = []  # of packages: the recipe names only what they registered
        with contextlib.suppress(EbmctlError):  # a run goes on without its model, or with a broken one
            listed = read_json(folder.model / "config.json").get("plugins", [])
        with contextlib.suppress(KeyError, TypeError, ValueError):  # what another program wrote into it
            registry.check_needed(listed)
        return folder, from_mapping(migrated(conversion.read_toml(path / "config.toml")))

    def form(self) -> Form | None:
        """The form of the last checkpoint that tells it: going on in it is bit-exact."""
        for path in reversed(self.checkpoints()):
            with contextlib.suppress(EbmctlError, KeyError, TypeError, ValueError):
                return Form.of(read_json(path / "state.json")["form"])
        return None

    def log(self, line: str) -> None:
        """Add a line to `log.txt`; failures, such as a full disk, are ignored."""
        with contextlib.suppress(OSError), (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def write(self, state: Saved) -> None:
        """Write a checkpoint and the model; drop the checkpoints beyond the last ones to keep."""
        path = self.path / "checkpoints" / f"step-{state.document['step']:09d}"
        save_checkpoint(path, state.tensors, state.document)
        save_model(self.model, state.config, state.model, model_card(state.config))
        if state.best:
            duplicate(path, self.path / "checkpoints" / "best")
            duplicate(self.model, self.path / "best")
        for old in self.checkpoints()[: -state.config.recipe.run.keep_checkpoints]:
            shutil.rmtree(old)

    def save_preview(self, trainer: Trainer) -> Path:
        """Write a picture of the newest negative samples, or of new ones where the objective has none."""
        preview = trainer.objective.preview(64)
        if preview is None:
            model = Model(ModelConfig(trainer.recipe, trainer.labels, {}), trainer.averaged())
            preview = sample(model, 16, label=trainer.labels[-1] if trainer.labels else None)
        path = self.path / "samples" / f"step-{trainer.step:09d}.png"
        save_grid(path, preview)
        return path

    def load_checkpoint(self, trainer: Trainer, back: int = 0) -> list[str]:
        """Give a trainer the state of the last whole checkpoint, or of one that lies `back` more before it.

        `metrics.jsonl` is cut back to it, and newer checkpoints are removed. Returns a line about each broken one
        that was skipped.
        """
        main, passed = trainer.accelerator.is_main_process, list[str]()
        found = self.checkpoints()
        trainer.accelerator.wait_for_everyone()  # until all have looked: the first process removes some
        for index in range(len(found) - 1, -1, -1):
            try:
                state = load_checkpoint(found[index])
            except EbmctlError as error:
                passed.append(str(error))
                continue
            if back and index:
                back -= 1
                continue
            try:
                trainer.load_state(*state)
            except (ValueError, KeyError, RuntimeError) as error:
                raise EbmctlError(f"{found[index]} does not match this run: {error}") from error
            trainer.accelerator.wait_for_everyone()
            if main:
                self._cut_back(trainer, found[index + 1 :])
            return passed
        raise EbmctlError("; ".join([f"{self.path} has no checkpoint to resume from", *passed]))

    def _cut_back(self, trainer: Trainer, newer: list[Path]) -> None:
        """Remove what lies after the trainer's state: checkpoints, lines of metrics, and what a killed run left."""
        for path in [*newer, *(self.path / "checkpoints").glob(".*"), *self.path.glob(".[mb]*-*")]:
            shutil.rmtree(path, ignore_errors=True)

        def belongs(line: Mapping[str, Any]) -> bool:
            found: bool = line["attempt"] <= trainer.attempt if "event" in line else line["step"] <= trainer.step
            return found

        data = self.metrics.read_bytes()
        kept = kept_bytes(data, belongs)
        os.truncate(self.metrics, kept)
        if kept and data[kept - 1 : kept] != b"\n":  # else the next line would join this one
            with self.metrics.open("ab") as file:
                file.write(b"\n")

    def read_metrics(self) -> Metrics:
        """The lines of `metrics.jsonl`: steps, and events."""
        return Metrics.read(self.metrics)


def disk_need(trainer: Trainer) -> int:
    """The bytes that a run's folder may come to hold: its checkpoints, one more while it is written, and models."""
    weights: int = sum(tensor.nbytes for tensor in trainer.network.state_dict().values())
    buffers = [objective.buffer for objective in trainer.objectives if objective.buffer is not None]
    images: int = max((buffer.images.nbytes for buffer in buffers), default=0)
    processes: int = trainer.accelerator.num_processes
    state = 4 * weights + images * processes  # network, EMA, and Adam's two moments
    return (trainer.recipe.run.keep_checkpoints + 2) * state + 3 * weights


def check_disk(trainer: Trainer, path: Path) -> str:
    """A line on the disk space that a run needs; raises EbmctlError where there is less."""
    need = disk_need(trainer)
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(above).free
    line = f"the run folder may need {need / 1e6:,.0f} MB; {free / 1e6:,.0f} MB are free"
    if need > free:
        raise EbmctlError(f"not enough disk space in {above}: {line}; try run.keep_checkpoints=1 or another --out")
    return line


def next_run(root: Path, dataset: DatasetName) -> Path:
    """The next free `00000-dataset` under `root`."""
    numbers = [int(m[1]) for item in root.glob("*") if (m := re.match(r"(\d{5})-", item.name))]
    return root / f"{max(numbers, default=-1) + 1:05d}-{dataset.slug}"


def latest_run(root: Path, dataset: DatasetName) -> Path:
    """The latest run of a dataset under `root`."""
    runs = root.glob(f"[0-9][0-9][0-9][0-9][0-9]-{dataset.slug}")
    found = sorted(item for item in runs if (item / "config.toml").is_file())
    if not found:
        raise EbmctlError(f"{root} has no run of {dataset} to resume; name one: --resume RUN")
    return found[-1]
