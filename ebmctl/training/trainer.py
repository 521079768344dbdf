"""Training: one step at a time, with all of its state in one object. Prints nothing and writes no file."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ebmctl.config import registry
from ebmctl.config.schema import Recipe
from ebmctl.core.ema import update_ema
from ebmctl.core.energy import Autocast, EnergyNetwork, frozen
from ebmctl.core.fast import Fast, FastFreeze
from ebmctl.core.langevin import Reporting
from ebmctl.core.noise import seeded
from ebmctl.core.objective import Freeze, LossTerm, Objective
from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset, Split
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.data.labels import condition, condition_labels, dropped
from ebmctl.data.loader import batches
from ebmctl.data.order import IndexOrder, Order, ShardOrder
from ebmctl.data.shards import ShardImages
from ebmctl.data.transform import to_float
from ebmctl.errors import DivergedError, EbmctlError, UsageError
from ebmctl.models.folder import build_network, unconditional_names
from ebmctl.models.form import EAGER, Form
from ebmctl.models.memory import free_bytes
from ebmctl.training.gradients import Summed, accumulate, check_bound, finite, found_problem
from ebmctl.training.packed import Packed, pack, unpack
from ebmctl.training.parallel import any_process, gather_tensors, highest, moved

LATE = 16  # steps on a GPU whose metrics are read together: waiting once in so many hardly counts, and few can be lost


@dataclass(frozen=True)
class StepMetrics:
    """What a training step reports; `values` is what `metrics.jsonl` holds."""

    step: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Unread:
    """A step whose metrics are still on the device."""

    packed: Packed
    losses: tuple[str, ...]  # what the terms' losses are called in `packed`
    began: float


def load_data(recipe: Recipe, split: Split, root: Path | None = None) -> ImageDataset:
    """The images that a recipe names."""
    data = recipe.data
    return open_dataset(data.dataset, DataRequest(split, root or default_root(), data.size, data.channels))


class Trainer:
    """A run's state: network, EMA, phase with its objective and optimiser, generator, step.

    `late` is the number of steps whose metrics are read together: 1, and on a GPU `LATE`. `unread` are those of which
    they are not read yet.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: ImageDataset,
        accelerator: Accelerator,
        form: Form = EAGER,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.recipe, self.dataset, self.accelerator, self.form, self.say = recipe, dataset, accelerator, form, say
        device = accelerator.device
        seed = recipe.run.seed
        self.labels = condition_labels(recipe, dataset)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torch's initialisers take no generator
            self.network = build_network(recipe.network, recipe.data.channels, len(self.labels)).to(device)
            self.ema = build_network(recipe.network, recipe.data.channels, len(self.labels)).to(device)
        self.ema.load_state_dict(self.network.state_dict())
        self.ema.requires_grad_(False)
        if recipe.run.freeze_init:
            if not self.labels:
                raise UsageError("run.freeze_init trains only the parameters that labels add: give --label")
            unconditional = unconditional_names(recipe.network, recipe.data.channels)
            for name, parameter in self.network.named_parameters():
                parameter.requires_grad_(name not in unconditional)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.generator = seeded(self._seed(), device)
        self.objectives = self._objectives()
        self.energy: EnergyNetwork = self.network
        self.freeze: Freeze = frozen
        if form.precision == "bf16":
            self.energy = Autocast(self.network, torch.bfloat16)
        if device.type == "cuda":
            self._fit_memory()
        if (lower := form.lower) is not None:
            most = max(phase.optimizer.batch_size for phase in recipe.schedule)
            self.freeze = FastFreeze(self.energy, lower, most, say)
            self.energy = Fast(self.energy, lower, most, say)
        self.step = 0
        self.progress = 0.0
        self.attempt = 0  # how often the guard has taken the run back
        self.best: float | None = None  # the smallest energy difference of a checkpoint
        self.late, self.unread = LATE if device.type == "cuda" else 1, list[Unread]()
        self._enter(0)

    def start_from(self, trained: Mapping[str, Tensor]) -> None:
        """Take over the weights of a trained energy; where it is unconditional, labels have no effect at first.

        Raises UsageError where they are of another architecture or shape.
        """
        mine = self.network.state_dict()
        unconditional = unconditional_names(self.recipe.network, self.recipe.data.channels)
        if not unconditional <= set(trained) <= set(mine) or any(mine[k].shape != trained[k].shape for k in trained):
            raise UsageError(f"can't start from {self.recipe.run.init}: it has another architecture or shape")
        self.network.ignore_labels()
        self.network.load_state_dict(mine | dict(trained))
        self.ema.load_state_dict(self.network.state_dict())

    def _objectives(self) -> list[Objective]:
        """The objective of each phase, all made at once, so that errors in a later one are raised before the run."""
        recipe = self.recipe
        self.sampler = registry.find("sampler", recipe.sampler.name).make(recipe.sampler.options, self.generator)
        augmentation = registry.find("augmentation", recipe.augment.name).make(recipe.augment.options, self.generator)
        made: list[Objective] = []
        for phase in recipe.schedule:
            entry = registry.find("objective", phase.objective.name)
            objective = entry.make(phase.objective.options, recipe.shape, self.sampler, augmentation)
            if not isinstance(objective, Objective):
                raise EbmctlError(f"{entry} did not return an Objective: subclass ebmctl.Objective")
            made.append(objective)
            if objective.needs_labels and not self.labels:
                raise UsageError(f"the objective '{phase.objective.name}' needs labels: give --label")
        return made

    def _fit_memory(self) -> None:
        """Let the objectives choose how much is computed at a time, by the memory that is free now."""
        device = self.accelerator.device
        label = torch.zeros(1, len(self.labels), device=device) if self.labels else None
        for phase, objective in zip(self.recipe.schedule, self.objectives, strict=True):
            objective.fit_memory(self.energy, label, phase.optimizer.batch_size, free_bytes(device))

    def _enter(self, phase: int) -> None:
        """Start a phase with a new optimiser; the weights and their average stay as they are."""
        self.phase = phase
        self.settings = settings = self.recipe.schedule[phase].optimizer
        self.objective = self.objectives[phase]
        self.lr = settings.lr * self.recipe.guard.lr_factor**self.attempt
        self.optimizer = torch.optim.Adam(self.parameters, self.lr, settings.betas, settings.eps, fused=True)

    def try_again(self, attempt: int) -> None:
        """After a roll-back: other random numbers, and a lower learning rate."""
        self.attempt = attempt
        self.generator.manual_seed(self._seed() + 1_000_003 * attempt)
        self.lr = self.settings.lr * self.recipe.guard.lr_factor**attempt
        self.optimizer.param_groups[0]["lr"] = self.lr

    def _seed(self) -> int:
        rank: int = self.accelerator.process_index
        return self.recipe.run.seed + 7919 * rank

    def advance(self, progress: float) -> bool:
        """Set the phase, and the learning rate, at a share of the run in [0, 1]; returns whether the phase is new."""
        self.progress = progress
        phase, within = self.recipe.phase_at(progress)
        if changed := phase != self.phase:
            self._enter(phase)
        if self.settings.decay == "cosine":
            self.optimizer.param_groups[0]["lr"] = self.lr * (1 + math.cos(math.pi * within)) / 2
        return changed

    def train_step(self, batch: ImageBatch) -> StepMetrics:
        """One training step; raises DivergedError, where `late` is 1 before the weights are touched."""
        self.launch(batch)
        (metrics,) = self.read()
        return metrics

    def launch(self, batch: ImageBatch) -> None:
        """A training step whose metrics are left to `read`.

        Where `late` is 1 it raises DivergedError before the weights are touched. Otherwise nothing waits for the
        device, and a step that diverged is found when it is read: up to `late` - 1 more steps have moved the weights
        by then. A run goes back to its last checkpoint anyway, and saves only what has been read.
        """
        began, data, device = time.perf_counter(), self.recipe.data, self.accelerator.device
        positives = to_float(moved(batch.images, device), self.generator if data.dequantize else None)
        label = condition(data.label, self.dataset, batch.labels)  # on the host: it may pick columns by their numbers
        label = None if label is None else moved(label, device)
        label = dropped(label, data.label_dropout, self.generator)
        found = self._summed(positives, label)
        values: dict[str, Any] = dict(found.logs)
        if "energy_data" in values and "energy_samples" in values:
            values["energy_difference"] = None  # comes with `read`, at its place
        for group, parts in found.gradients.items():
            values[f"gradient_{group}"] = nn.utils.get_total_norm(parts)
        if isinstance(self.sampler, Reporting):
            values |= {f"sampler_{name}": value for name, value in self.sampler.report().items()}
        values["gradient"] = self._update(self.average(found.gradients))
        self.step += 1
        update_ema(self.ema.parameters(), self.network.parameters(), self.settings.ema, self.step)
        state = {"step": self.step, "phase": self.phase, "lr": self.optimizer.param_groups[0]["lr"]}
        losses = {f"loss of term {index}": loss for index, loss in enumerate(found.losses)}
        self.unread.append(Unread(pack(state | values | losses), tuple(losses), began))

    def read(self) -> Iterator[StepMetrics]:
        """The metrics of all steps that are unread, in their order, with one transfer from the device.

        Raises DivergedError at the first step that diverged in any process; all processes have to read at once.
        """
        steps, self.unread = self.unread, []
        found = unpack([step.packed for step in steps])
        problems = [self._problem(step, values) for step, values in zip(steps, found, strict=True)]
        first = next((index for index, problem in enumerate(problems) if problem), len(steps))
        if self.late > 1:  # else `launch` has asked the other processes
            first = -int(highest(self.accelerator, -first))
        seconds = (time.perf_counter() - steps[0].began) / len(steps) if steps else 0.0
        for values in found[:first]:
            yield StepMetrics(values["step"], {**values, "seconds": seconds})
        if first < len(steps):
            problem = problems[first] or "in another process"
            raise DivergedError(f"training diverged at step {found[first]['step']}: {problem}")

    def _summed(self, positives: Tensor, label: Tensor | None) -> Summed:
        """The sums over terms. One that runs out of memory is tried again with the same random numbers and less at a
        time, if the objective can: the state that it keeps from batch to batch changes only once all is computed.
        """
        before = self.generator.get_state()
        try:
            return self._sum(self.objective.losses(self.energy, positives, label, self.freeze))
        except torch.OutOfMemoryError:
            if not (less := self.objective.need_less_memory()):
                raise
        # out here the error is gone, and with it all that was computed
        self.say(f"out of memory: now {less}")
        self.generator.set_state(before)
        return self._summed(positives, label)

    def _sum(self, terms: Iterator[LossTerm]) -> Summed:
        return self._checked(terms) if self.late == 1 else accumulate(terms, self.parameters)

    def _checked(self, terms: Iterator[LossTerm]) -> Summed:
        """The sums over terms; raises DivergedError where one diverges, in all processes."""
        problem, found = "in another process", None
        try:
            summed = accumulate(finite(terms), self.parameters)
            if "energy_data_scales" in summed.logs:
                check_bound(summed.logs["energy_data_scales"], self.recipe.run.energy_bound)
            found = summed
        except DivergedError as error:
            problem = str(error)
        if any_process(self.accelerator, found is None) or found is None:
            raise DivergedError(f"training diverged at step {self.step + 1}: {problem}")
        return found

    def _problem(self, step: Unread, values: dict[str, Any]) -> str | None:
        """Complete the values of a step that were read; how it diverged, or None."""
        losses = [values.pop(name) for name in step.losses]
        if "energy_difference" in values:
            values["energy_difference"] = values["energy_data"] - values["energy_samples"]
        return found_problem(losses, values.get("energy_data_scales"), self.recipe.run.energy_bound)

    def average(self, gradients: Mapping[str, list[Tensor]]) -> list[Tensor]:
        """The gradient: the sum over groups, averaged over processes."""
        total, *others = gradients.values()
        for parts in others:
            torch._foreach_add_(total, parts)
        if self.accelerator.num_processes > 1:
            flat = self.accelerator.reduce(torch.cat([g.flatten() for g in total]), "mean")
            total = [f.view_as(g) for f, g in zip(flat.split([g.numel() for g in total]), total, strict=True)]
        return total

    def _update(self, gradient: list[Tensor]) -> Tensor:
        """Clip the gradient and step the optimiser; returns the norm before clipping."""
        for parameter, part in zip(self.parameters, gradient, strict=True):
            # fused Adam reads a gradient as if it had the parameter's strides; one of a convolution may have others
            parameter.grad = part if part.stride() == parameter.stride() else torch.empty_like(parameter).copy_(part)
        limit = self.settings.clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.parameters, limit)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def averaged(self) -> EnergyNetwork:
        """The network to evaluate: the EMA, which equals the network itself where its decay is 0."""
        return self.ema

    def batches(self) -> Iterator[ImageBatch]:
        """This process's batches of the phase from the present step on; each process has its share of the data.

        Their order depends on the seed and the step alone.
        """
        rank, ranks = self.accelerator.process_index, self.accelerator.num_processes
        size, seed = self.settings.batch_size, self.recipe.run.seed
        order: Order = IndexOrder(len(self.dataset), size, seed, rank, ranks)
        if isinstance(self.dataset, ShardImages):
            order = ShardOrder(self.dataset.lengths, size, seed, rank, ranks)
        return batches(self.dataset, order, self.step, self.recipe.data.workers)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on, of all processes, as tensors and plain values.

        All processes take part; only the first one receives the tensors of the others. All steps must have been read.
        """
        assert not self.unread  # nobody knows yet whether they diverged
        tensors = _prefixed("network", self.network.state_dict()) | _prefixed("ema", self.ema.state_dict())
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= _prefixed(f"optimizer.{index}", entry)
        own = {"generator": self.generator.get_state(), **_prefixed("objective", self.objective.state_dict())}
        for rank, part in enumerate(gather_tensors(self.accelerator, own)):
            tensors |= _prefixed(f"rank{rank}", part)
        return tensors, {
            "step": self.step,
            "phase": self.phase,
            "progress": self.progress,
            "attempt": self.attempt,
            "best": self.best,
            "processes": self.accelerator.num_processes,
            "form": self.form.to_mapping(),
        }

    def load_state(self, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
        """Go on from a state; raises ValueError, KeyError or RuntimeError where it does not fit the recipe."""
        if (processes := document["processes"]) != self.accelerator.num_processes:
            raise ValueError(f"it was saved by {processes} processes; resume with --processes {processes}")
        if not 0 <= (phase := int(document["phase"])) < len(self.objectives):
            raise ValueError(f"it was in phase {phase}, which the recipe does not have")
        own = _section(tensors, f"rank{self.accelerator.process_index}")
        if own["generator"].shape != self.generator.get_state().shape:
            raise ValueError("it was saved on another kind of device; resume with the --device of before")
        self.unread.clear()
        self.attempt = int(document["attempt"])
        self._enter(phase)
        self.network.load_state_dict(_section(tensors, "network"))
        self.ema.load_state_dict(_section(tensors, "ema"))
        self.objective.load_state_dict(_section(own, "objective"))
        count = len(self.parameters) if "optimizer.0.step" in tensors else 0
        state = {index: _section(tensors, f"optimizer.{index}") for index in range(count)}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.generator.set_state(own["generator"].cpu())
        self.step = int(document["step"])
        self.progress = float(document["progress"])
        self.best = document["best"]


def fit(
    trainer: Trainer, progress: Callable[[], float] | None = None, due: Callable[[int], bool] = lambda _: False
) -> Iterator[StepMetrics]:
    """Train until the recipe's number of steps, yielding the metrics of each; stop by closing the iterator.

    They come as they are read: where `trainer.late` is above 1 later steps may be done by then, but none after a step
    that is `due`, or the last of a phase. `progress` gives the share of the run that is done, in [0, 1], where phases
    do not go by steps.
    """
    steps = trainer.recipe.run.steps
    source = trainer.batches()
    while trainer.step < steps:
        share = progress() if progress else trainer.step / steps
        if trainer.unread and trainer.recipe.phase_at(share)[0] != trainer.phase:
            yield from trainer.read()
        if trainer.advance(share):
            source = trainer.batches()
        trainer.launch(next(source))
        if len(trainer.unread) >= trainer.late or trainer.step == steps or due(trainer.step):
            yield from trainer.read()


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
