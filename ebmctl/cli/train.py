"""`ebmctl train`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ebmctl.cli import console, options
from ebmctl.config import recipe as recipes
from ebmctl.config.dataset import DatasetName
from ebmctl.errors import DivergedError, EbmctlError, UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ebmctl.config.schema import Recipe
    from ebmctl.models.form import Form
    from ebmctl.training.folder import RunFolder
    from ebmctl.training.loop import Score
    from ebmctl.training.trainer import Trainer

RUNS = Path("runs")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def train(
    dataset: str = typer.Argument(..., help="Name of a dataset, or folder:PATH.", metavar="DATASET"),
    recipe: str | None = typer.Option(None, help="Recipe, by name or TOML file.", metavar="NAME|FILE"),
    assignments: list[str] = typer.Option([], "--set", help="Override a key of the recipe.", metavar="KEY=VALUE"),
    out: Path | None = typer.Option(None, help="Run folder; default: the next number in runs/.", metavar="DIR"),
    resume: str | None = typer.Option(None, help="Resume a run; default: the latest.", metavar="[RUN]"),
    steps: int | None = typer.Option(None, help="Training steps.", metavar="N"),
    time_limit: str | None = typer.Option(
        None, "--time", help="Stop after this time: 90s, 3m, 12h, 2d.", metavar="TIME"
    ),
    seed: int | None = typer.Option(None, help="Random seed.", metavar="N"),
    device: str = options.DEVICE,
    precision: str = options.PRECISION,
    compile: str = options.COMPILE,
    processes: int = typer.Option(1, help="Number of processes on this machine.", metavar="N"),
    label: str | None = typer.Option(None, help="Condition on an attribute, or on 'class'.", metavar="ATTRIBUTE"),
    init: str | None = typer.Option(None, help="Start from this model, conditional or not.", metavar="MODEL"),
    data_dir: Path | None = options.DATA_DIR,
    log_with: str | None = typer.Option(None, help="Also log to this tracker.", metavar="tensorboard|wandb|trackio"),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the recipe, and estimate time and memory."),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Train an energy-based model on a dataset or a folder of images."""
    with console.guard(debug):
        options.check_device(device)
        options.check_form(precision, compile)
        console.choice("--log-with", log_with, ["tensorboard", "wandb", "trackio"])
        seconds = parse_time(time_limit) if time_limit else None
        flags = {"run.steps": steps, "run.seed": seed, "data.label": label, "run.init": init}
        name = DatasetName.parse(dataset)
        resolved = recipes.resolve(name, recipe, assignments, flags)
        if processes > 1 and "WORLD_SIZE" not in os.environ:
            path = _existing_run(resume, name) if resume else out or next_run_path(name)
            _check_processes(device, processes)
            raise typer.Exit(_launch(processes, dataset, path, [] if out or resume else [f"--out={path}"]))
        if dry_run:
            from ebmctl.cli.dry_run import dry_run as show_estimate

            show_estimate(resolved, device, precision, compile, seconds, as_json)
            return
        path = _existing_run(resume, name) if resume else out or next_run_path(name)
        resolved = _check_run(path, resolved, bool(resume), steps)
        from ebmctl.training.folder import RunFolder
        from ebmctl.training.parallel import make_accelerator

        accelerator = make_accelerator(device, processes)
        last = RunFolder(path).form() if resume else None
        form = training_form(resolved, accelerator, precision, compile, seconds, last)
        trainer = make_trainer(resolved, accelerator, form, data_dir)
        score = _score(trainer, data_dir)
        folder = _enter_run(path, trainer, bool(resume))
        if accelerator.is_main_process:
            folder.log(f"training in {form}")
        accelerator.wait_for_everyone()  # until the first process has made the run folder
        try:
            _run(trainer, folder, seconds, score, log_with, as_json)
        finally:
            accelerator.end_training()


def parse_time(text: str) -> float:
    """Seconds of a time such as 90s, 3m, 1.5h, 2d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not match or not float(match[1]):
        raise UsageError(f"--time must be a duration such as 90s, 3m, 12h or 2d, not '{text}'")
    return float(match[1]) * _UNITS[match[2]]


def _check_processes(device: str, processes: int) -> None:
    from ebmctl.models.device import device_of
    from ebmctl.training.parallel import check_gpus

    check_gpus(device_of(device), processes)


def _launch(processes: int, dataset: str, path: Path, more: list[str]) -> int:
    """Run this same command, with `more` arguments, in several processes through torch's own launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    with console.interruptible() as signals:
        running = subprocess.Popen([*launcher, "-m", "ebmctl", *sys.argv[1:], *more])
        while (status := running.poll()) is None:
            if signals[-1:] == [signal.SIGTERM]:
                running.terminate()  # Ctrl-C reaches the processes without help
            time.sleep(0.2)
    if signals:
        return 128 + signals[0]
    if status and (path / "config.toml").is_file():
        again = f"ebmctl train {dataset} --resume {path} --processes {processes}"
        raise EbmctlError(f"a training process failed (see above); resume with: {again}")
    return status


def training_form(
    recipe: Recipe,
    accelerator: Accelerator,
    precision: str,
    compile: str,
    seconds: float | None,
    last: Form | None,
) -> Form:
    """The form of a run of so many seconds at most, told in one line and set for the process.

    Where nothing else is asked for it is the `last` one of a run that is resumed.
    """
    from ebmctl.models.device import described
    from ebmctl.models.form import Work, choose, prepare, told
    from ebmctl.training.estimate import eager_seconds

    work = Work(0.0)
    if compile == "auto" and last is None:
        work = Work(limit=seconds) if seconds else Work(eager_seconds(recipe, accelerator, precision))
    form = choose(accelerator.device, precision, compile, work, last)
    prepare(form)
    if accelerator.is_main_process:
        console.say(f"training on {described(accelerator.device)}: {told(form, accelerator.device)}")
    return form


def make_trainer(resolved: Recipe, accelerator: Accelerator, form: Form, data_dir: Path | None) -> Trainer:
    """Load the data and set up a run."""
    from ebmctl.training.trainer import Trainer, load_data

    return Trainer(resolved, load_data(resolved, "train", data_dir), accelerator, form, say=console.say)


def next_run_path(dataset: DatasetName) -> Path:
    """The run folder where none is named."""
    from ebmctl.training.folder import next_run

    return next_run(RUNS, dataset)


def _existing_run(resume: str, dataset: DatasetName) -> Path:
    from ebmctl.training.folder import latest_run

    return latest_run(RUNS, dataset) if resume == "latest" else Path(resume)


def _check_run(path: Path, resolved: Recipe, resume: bool, steps: int | None) -> Recipe:
    """The recipe of a run, checked before any work: a new one's, or an old one's (with --steps, if given)."""
    from ebmctl.training.folder import RunFolder

    if not resume:
        if os.environ.get("RANK", "0") == "0":
            RunFolder.check_new(path)
        return resolved
    _, own = RunFolder.open(path)
    if own.data.name != resolved.data.name:
        raise UsageError(f"{path} was trained on {own.data.name}, not on {resolved.data.name}")
    return recipes.with_steps(own, steps)


def _enter_run(path: Path, trainer: Trainer, resume: bool) -> RunFolder:
    """Create the run folder, or load its last checkpoint."""
    from ebmctl.models.folder import load_model
    from ebmctl.models.zoo import find_model
    from ebmctl.training.folder import RunFolder, check_disk

    if resume:
        folder, _ = RunFolder.open(path)
        for line in folder.load_checkpoint(trainer):
            console.say(f"skipped: {line}")
        console.say(f"resuming {path} from step {trainer.step}")
        return folder
    if reference := trainer.recipe.run.init:
        config, trained = load_model(find_model(reference))
        trainer.start_from(trained.state_dict())
        there, here = (recipe.to_mapping()["network"] for recipe in (config.recipe, trainer.recipe))
        changes = [f"{key} = {here[key]}, not {there[key]}" for key in here if here[key] != there.get(key)]
        if trainer.accelerator.is_main_process:
            console.say(f"starting from {reference}" + (f", with {', '.join(changes)}" if changes else ""))
    if not trainer.accelerator.is_main_process:
        return RunFolder(path)
    console.say(check_disk(trainer, path))
    return RunFolder.create(path, trainer.recipe)


def _score(trainer: Trainer, data_dir: Path | None) -> Score | None:
    """The quick score that the recipe asks for, prepared before the run folder is created."""
    if not trainer.recipe.eval.every or not trainer.accelerator.is_main_process:
        return None
    from ebmctl.data.datasets import default_root
    from ebmctl.evaluation.training import TrainingScore

    made = TrainingScore(trainer.recipe, data_dir or default_root(), trainer.accelerator.device)
    console.say(f"evaluating every {trainer.recipe.eval.every:,} steps with {made.extractor.name}")
    return made


def _run(
    trainer: Trainer,
    folder: RunFolder,
    seconds: float | None,
    score: Score | None,
    log_with: str | None,
    as_json: bool,
) -> None:
    from ebmctl.training.loop import Finished, Previewed, RolledBack, train
    from ebmctl.training.trackers import Tracker

    recipe, finished = trainer.recipe, None
    tracker = Tracker(log_with, folder.path, recipe.to_mapping())
    with (
        console.interruptible() as signals,
        console.TrainingProgress(recipe.run.steps, seconds, trainer.step) as progress,
    ):
        try:
            for event in train(trainer, folder, seconds=seconds, stopped=lambda: bool(signals), score=score):
                if isinstance(event, Finished):
                    finished = event
                elif isinstance(event, RolledBack):
                    console.say(event.reason)
                elif isinstance(event, Previewed):
                    tracker.picture(event.path, event.step)
                elif trainer.accelerator.is_main_process:
                    progress.update(event.values)
                    tracker.log(event.values)
        except DivergedError:
            if as_json:
                seconds_run = time.monotonic() - progress.began
                console.show(_result(Finished(folder.path, "diverged", trainer.step, seconds_run, None), folder), True)
            raise
    tracker.finish()
    assert finished is not None  # the last event
    if not trainer.accelerator.is_main_process:
        return
    if finished.reason == "interrupted":
        several = trainer.accelerator.num_processes
        more = f" --processes {several}" if several > 1 else ""
        console.say(f"saved; resume with: ebmctl train {recipe.data.name} --resume {folder.path}{more}")
    console.show(_result(finished, folder), as_json)
    if finished.reason == "interrupted":
        raise typer.Exit(128 + signals[0])


def _result(finished: Any, folder: RunFolder) -> dict[str, Any]:
    return {
        "run": str(finished.folder),
        "model": str(folder.model),
        "steps": finished.step,
        "seconds": round(finished.seconds, 1),
        "energy_difference": finished.energy_difference,
        "diverged": finished.reason == "diverged",
    }
