"""A training run in its folder: metrics, checkpoints, and going back to the last good one."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from ebmctl.config.schema import EVAL_DISTANCE
from ebmctl.errors import DivergedError, EbmctlError
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import Model
from ebmctl.training.folder import RunFolder, snapshot
from ebmctl.training.guard import Guard
from ebmctl.training.parallel import any_process, highest
from ebmctl.training.trainer import StepMetrics, Trainer, fit


@dataclass(frozen=True)
class Finished:
    """How a run ended: `reason` is "steps", "time" or "interrupted"."""

    folder: Path
    reason: str
    step: int
    seconds: float
    energy_difference: float | None


@dataclass(frozen=True)
class RolledBack:
    """The guard took the run back to a step, and why."""

    step: int
    reason: str


@dataclass(frozen=True)
class Previewed:
    """A picture of samples was written after a step."""

    step: int
    path: Path


Event = StepMetrics | RolledBack | Previewed | Finished
Score = Callable[[Model], Mapping[str, float]]


def train(
    trainer: Trainer,
    folder: RunFolder,
    *,
    seconds: float | None,
    stopped: Callable[[], bool],
    score: Score | None = None,
) -> Iterator[Event]:
    """Train in a run folder: yields the metrics of each step, then how it ended; always ends with a saved model.

    Every `eval.every` steps `score` is called on the averaged weights; its values join the step's metrics, and the one
    named `EVAL_DISTANCE` decides which model is the best. Without it that is the one of the smallest energy
    difference.

    Ends at the recipe's number of steps, after `seconds`, or when `stopped()` is true after a step. On a GPU the
    metrics of several steps are read together (see `Trainer.launch`), before anything that is due after a step: what is
    saved has always been read. There the guard looks at the samples of the last of them. Only the first process
    writes. Raises DivergedError where the guard gives up, with the last good checkpoint and model kept.
    """
    path = folder.metrics if trainer.accelerator.is_main_process else Path(os.devnull)
    with path.open("ab", buffering=0) as file, ThreadPoolExecutor(1) as pool:
        yield from _Run(trainer, folder, seconds, stopped, score, file, pool).events()


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        seconds: float | None,
        stopped: Callable[[], bool],
        score: Score | None,
        file: FileIO,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.trainer, self.folder, self.stopped, self.file, self.pool = trainer, folder, stopped, file, pool
        self.score, self.better = score, False
        self.main, self.settings = trainer.accelerator.is_main_process, trainer.recipe.run
        self.began, self.seconds = time.monotonic(), seconds
        self.first_progress, self.reached = trainer.progress, trainer.step
        self.guard = Guard(trainer.recipe.guard, folder.read_metrics().steps)
        self.writing: Future[None] | None = None
        self.last: dict[str, Any] = {}
        self.since_saved: list[float] = []  # energy differences
        self.failures = 0  # since the last checkpoint

    def events(self) -> Iterator[Event]:
        if not self.trainer.step:
            self.save()  # something to go back to
        while True:
            try:
                reason = yield from self._steps()
                break
            except DivergedError as error:
                yield self._roll_back(error)
        self.save()
        self._wait()
        if self.main:
            self.folder.log(f"ended after {self.trainer.step} steps ({reason})")
        elapsed = time.monotonic() - self.began
        yield Finished(self.folder.path, reason, self.trainer.step, elapsed, self.last.get("energy_difference"))

    def _steps(self) -> Generator[Event, None, str]:
        """Train until the end, a signal or a divergence; returns the reason for the end."""
        trainer = self.trainer
        by_time = self.settings.phases_by == "time" and self.seconds is not None
        for metrics in fit(trainer, self._progress if by_time else None, self._due):
            newest = metrics.step == trainer.step  # else later steps are done, and nothing is due
            self.last, self.reached = metrics.values, metrics.step
            self._evaluate(metrics)
            self._write(self.last)
            yield metrics
            problem = self.guard.problem(self.last, trainer.objective.preview(64) if newest else None)
            if any_process(trainer.accelerator, problem is not None):
                raise DivergedError(f"training diverged at step {metrics.step}: {problem or 'in another process'}")
            if "energy_difference" in self.last:
                self.since_saved.append(self.last["energy_difference"])
            if not newest:
                continue
            if self.main and metrics.step % self.settings.preview_every == 0:
                yield Previewed(metrics.step, self.folder.save_preview(trainer))
            due = metrics.step % self.settings.checkpoint_every == 0 and metrics.step < self.settings.steps
            if any_process(trainer.accelerator, due or self.better):
                self.save()
            over = self._over()
            if any_process(trainer.accelerator, self.stopped() or over):
                return "time" if over else "interrupted"
        return "steps"

    def _due(self, step: int) -> bool:
        """Whether something happens after a step, for which it and all before must have been read.

        Of several processes none can end the run alone: they ask one another whenever they read.
        """
        every = (self.settings.preview_every, self.settings.checkpoint_every, self.trainer.recipe.eval.every)
        if any(number and step % number == 0 for number in every):
            return True
        return self.trainer.accelerator.num_processes == 1 and (self.stopped() or self._over())

    def _over(self) -> bool:
        return self.seconds is not None and time.monotonic() - self.began >= self.seconds

    def _evaluate(self, metrics: StepMetrics) -> None:
        """Add the score of the averaged weights to a step's metrics, where it is due; the first process's task."""
        every, trainer = self.trainer.recipe.eval.every, self.trainer
        if not (self.main and self.score and every and metrics.step % every == 0):
            return
        model = Model(ModelConfig(trainer.recipe, trainer.labels, {}), trainer.averaged())
        metrics.values.update(self.score(model))
        distance = metrics.values.get(EVAL_DISTANCE)
        if distance is not None and (trainer.best is None or distance < trainer.best):
            trainer.best, self.better = distance, True

    def _progress(self) -> float:
        """The share of the run by the clock, the same in all processes: these agree on it only when they read."""
        assert self.seconds is not None
        if self.trainer.unread and self.trainer.accelerator.num_processes > 1:
            return self.trainer.progress
        clock = min((time.monotonic() - self.began) / self.seconds, 1.0)
        share = self.first_progress + (1 - self.first_progress) * clock
        return highest(self.trainer.accelerator, max(share, self.trainer.step / self.settings.steps))

    def _write(self, values: Mapping[str, Any]) -> None:
        try:
            line = (json.dumps(values) + "\n").encode()
            if self.file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise EbmctlError(f"can't write {self.folder.metrics}: {error.strerror}") from error

    def save(self) -> None:
        """Start to write a checkpoint, once the one before is written."""
        best, self.failures = self._is_best(), 0
        elapsed = time.monotonic() - self.began
        state = snapshot(self.trainer, elapsed, self.last.get("energy_difference"), best)
        self._wait()
        if self.main:
            os.fsync(self.file.fileno())  # no checkpoint is ahead of the metrics
            self.writing = self.pool.submit(self.folder.write, state)

    def _is_best(self) -> bool:
        """Whether the score is the best so far, or the energy difference since the last checkpoint, on average."""
        if self.score:
            better, self.better = self.better, False
            return better
        if not self.since_saved:
            return False
        difference = abs(sum(self.since_saved)) / len(self.since_saved)
        self.since_saved.clear()
        if self.trainer.best is not None and difference >= self.trainer.best:
            return False
        self.trainer.best = difference
        return True

    def _wait(self) -> None:
        if self.writing:
            self.writing.result()
            self.writing = None

    def _roll_back(self, error: DivergedError) -> RolledBack:
        """Go back to the last good checkpoint; raises DivergedError if there are no tries left."""
        trainer, tries = self.trainer, self.trainer.recipe.guard.tries
        self._wait()
        trainer.accelerator.wait_for_everyone()  # until the first process has written
        if trainer.attempt >= tries:
            line = f"{error}; gave up after {tries} tries" if tries else str(error)
            if self.main:
                self.folder.log(line)
            raise DivergedError(
                f"{line}; the last good state is in {self.folder.path}; "
                "try a lower optimizer.lr, a smaller sampler.step_size, or objective.kl_loss=true if it is off"
            ) from error
        attempt, at = trainer.attempt + 1, self.reached
        events = self.folder.read_metrics().events
        self.folder.load_checkpoint(trainer, back=self.failures)
        self.failures += 1
        self.reached = trainer.step
        lost = [event for event in events if event["attempt"] > trainer.attempt]
        trainer.try_again(attempt)
        self.guard = Guard(trainer.recipe.guard, [])
        self.since_saved.clear()
        self.better = False
        factor = trainer.recipe.guard.lr_factor**attempt
        reason = f"{error}; back to step {trainer.step} with {factor:g} times the learning rate"
        if self.main:
            self.folder.log(reason)
            event = {"event": "rollback", "step": trainer.step, "from": at, "attempt": attempt, "reason": str(error)}
            for item in (*lost, event):
                self._write(item)
        return RolledBack(trainer.step, reason)
