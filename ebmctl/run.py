"""Run folders: everything that a training run writes."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from ebmctl import __version__, settings
from ebmctl.card import model_card
from ebmctl.checkpoint import ModelConfig, load_checkpoint, save_checkpoint, save_model
from ebmctl.errors import DivergedError, EbmctlError
from ebmctl.files import atomic_file
from ebmctl.fit import StepMetrics, Trainer, fit
from ebmctl.images import save_grid
from ebmctl.recipe import from_mapping
from ebmctl.schema import Recipe


@dataclass(frozen=True)
class Finished:
    """How a run ended: `reason` is "steps", "time" or "interrupted"."""

    folder: Path
    reason: str
    step: int
    seconds: float
    energy_difference: float | None


class RunFolder:
    """`config.toml`, `metrics.jsonl`, `samples/`, `checkpoints/`, `model/` and `log.txt` of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = path / "model"
        self.metrics = path / "metrics.jsonl"

    @staticmethod
    def check_new(path: Path) -> None:
        """Raise EbmctlError where a new run folder can't be made: asked before the data is loaded."""
        if path.exists():
            raise EbmctlError(f"{path} exists already; go on with it by --resume {path}, or choose another --out")
        above = next(parent for parent in path.absolute().parents if parent.exists())
        if not above.is_dir() or not os.access(above, os.W_OK):
            raise EbmctlError(f"can't make the run folder {path}: {above} is not a folder that can be written")

    @classmethod
    def create(cls, path: Path, recipe: Recipe) -> RunFolder:
        """Make a new run folder; raises EbmctlError where there is one already, or it can't be written."""
        folder = cls(path)
        cls.check_new(path)
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise EbmctlError(f"can't make the run folder {path}: {error.strerror}") from error
        with atomic_file(path / "config.toml") as temporary:
            temporary.write_text(settings.dump_toml(recipe.to_mapping()), encoding="utf-8")
        folder.metrics.touch()
        folder.log("created")
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[RunFolder, Recipe]:
        """An existing run and its recipe."""
        if not (path / "config.toml").is_file():
            raise EbmctlError(f"{path} is not a run folder: it has no config.toml")
        return cls(path), from_mapping(settings.read_toml(path / "config.toml"))

    def log(self, line: str) -> None:
        """Add a line to `log.txt`."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def save_checkpoint(self, trainer: Trainer) -> None:
        """Write a checkpoint and drop those beyond the last ones to keep."""
        save_checkpoint(self.path / "checkpoints" / f"step-{trainer.step:09d}", *trainer.state())
        for old in self.checkpoints()[: -trainer.recipe.run.keep_checkpoints]:
            for item in old.iterdir():
                item.unlink()
            old.rmdir()

    def save_preview(self, trainer: Trainer) -> None:
        """Write a picture of the newest negative samples, where the objective has any."""
        preview = trainer.objective.preview(64)
        if preview is not None:
            save_grid(self.path / "samples" / f"step-{trainer.step:09d}.png", preview)

    def load_checkpoint(self, trainer: Trainer) -> list[str]:
        """Give a trainer the state of the last whole checkpoint, and cut `metrics.jsonl` back to it.

        Gives a line about each newer checkpoint that is not whole and was passed over.
        """
        passed: list[str] = []
        for path in reversed(self.checkpoints()):
            try:
                state = load_checkpoint(path)
            except EbmctlError as error:
                passed.append(str(error))
                self.log(f"passed over: {error}")
                continue
            try:
                trainer.load_state(*state)
            except (ValueError, KeyError, RuntimeError) as error:
                raise EbmctlError(f"{path} does not fit the run's config.toml ({error})") from error
            self._cut_metrics(trainer.step)
            return passed
        raise EbmctlError("; ".join([f"{self.path} has no checkpoint to go on from", *passed]))

    def _cut_metrics(self, step: int) -> None:
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_file(self.metrics) as temporary:
            temporary.write_text("".join(lines[:step]), encoding="utf-8")

    def save_model(self, trainer: Trainer, seconds: float, last: Mapping[str, Any]) -> None:
        """Write the model folder with the averaged weights."""
        provenance = {
            "ebmctl": __version__,
            "torch": torch.__version__,
            "steps": trainer.step,
            "seconds": round(seconds, 1),
            "energy_difference": last.get("energy_difference"),
        }
        config = ModelConfig(trainer.recipe, trainer.labels, provenance)
        save_model(self.model, config, trainer.averaged(), model_card(config))


def next_run(root: Path, dataset: str) -> Path:
    """The next free `00000-dataset` under `root`."""
    numbers = [int(m[1]) for item in root.glob("*") if (m := re.match(r"(\d{5})-", item.name))]
    return root / f"{max(numbers, default=-1) + 1:05d}-{run_name(dataset)}"


def run_name(dataset: str) -> str:
    """The dataset's part of a run folder's name."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(dataset.removeprefix("folder:")).name).strip("-") or "run"


def latest_run(root: Path, dataset: str) -> Path:
    """The latest run of a dataset under `root`."""
    name = run_name(dataset)
    found = sorted(item for item in root.glob(f"[0-9][0-9][0-9][0-9][0-9]-{name}") if (item / "config.toml").is_file())
    if not found:
        raise EbmctlError(f"{root} has no run of {dataset} to go on with; name one: --resume RUN")
    return found[-1]


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether a flag is set in any process: all of them must stop at the same step."""
    return highest(accelerator, float(flag)) > 0


def highest(accelerator: Accelerator, value: float) -> float:
    """The highest value of all processes."""
    if accelerator.num_processes == 1:
        return value
    return float(accelerator.gather(torch.tensor([value], dtype=torch.float64, device=accelerator.device)).max())


def train(
    trainer: Trainer, folder: RunFolder, *, seconds: float | None, stopped: Callable[[], bool]
) -> Iterator[StepMetrics | Finished]:
    """Train in a run folder: yields the metrics of each step, then how it ended; always ends with a saved model.

    Ends at the recipe's number of steps, after `seconds`, or when `stopped()` is true after a step. Only the first
    process writes. Raises DivergedError, with the last good state saved.
    """
    began = time.monotonic()
    main = trainer.accelerator.is_main_process
    last: dict[str, Any] = {}
    reason = "steps"

    def save() -> None:
        if main:
            folder.save_checkpoint(trainer)
            folder.save_model(trainer, time.monotonic() - began, last)

    first = trainer.progress

    def progress() -> float:
        """The share of the run by the clock, the same in all processes."""
        assert seconds is not None
        share = first + (1 - first) * min((time.monotonic() - began) / seconds, 1.0)
        return highest(trainer.accelerator, max(share, trainer.step / trainer.recipe.run.steps))

    by_time = trainer.recipe.run.phases_by == "time" and seconds is not None
    path = folder.metrics if main else Path(os.devnull)
    with path.open("a", encoding="utf-8") as file:
        try:
            for metrics in fit(trainer, progress if by_time else None):
                last = metrics.values
                file.write(json.dumps(last) + "\n")
                file.flush()
                yield metrics
                preview = (
                    trainer.objective.preview(64) if metrics.step % trainer.recipe.run.preview_every == 0 else None
                )
                if main and preview is not None:
                    save_grid(folder.path / "samples" / f"step-{metrics.step:09d}.png", preview)
                if metrics.step % trainer.recipe.run.checkpoint_every == 0 and metrics.step < trainer.recipe.run.steps:
                    save()
                late = seconds is not None and time.monotonic() - began >= seconds
                if any_process(trainer.accelerator, stopped() or late):
                    reason = "time" if late else "interrupted"
                    break
        except DivergedError as error:
            save()
            if main:
                folder.log(str(error))
            raise DivergedError(f"{error}; the state before that step is in {folder.path}") from error
    save()
    if main:
        folder.log(f"ended after {trainer.step} steps ({reason})")
    yield Finished(folder.path, reason, trainer.step, time.monotonic() - began, last.get("energy_difference"))
