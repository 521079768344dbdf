"""Training: one step at a time, with all of its state in one object. Prints nothing and writes no file."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ebmctl import registry
from ebmctl.checkpoint import build_network, seeded
from ebmctl.core.cd import LossTerm
from ebmctl.core.ema import update_ema
from ebmctl.core.energy import Autocast, CompiledFreeze, EnergyNetwork, frozen
from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset, Split
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.data.loader import batches
from ebmctl.data.order import IndexOrder
from ebmctl.data.transform import to_float
from ebmctl.errors import DivergedError, UsageError, unknown
from ebmctl.recipe import Recipe


@dataclass(frozen=True)
class StepMetrics:
    """What a training step reports; `values` is what `metrics.jsonl` holds."""

    step: int
    values: dict[str, Any]


def load_data(recipe: Recipe, split: Split, root: Path | None = None) -> ImageDataset:
    """The images that a recipe names."""
    data = recipe.data
    request = DataRequest(split, root or default_root(), data.size, data.channels)
    return open_dataset(data.name, request, lambda name: registry.find("dataset", name).load())


def condition_labels(recipe: Recipe, dataset: ImageDataset) -> tuple[str, ...]:
    """The names of the inputs that condition the energy: none, the classes, or the two values of one attribute."""
    label = recipe.data.label
    if not label:
        return ()
    if label == "class" and dataset.exclusive and dataset.label_names:
        return tuple(dataset.label_names)
    if label not in dataset.label_names:
        if not dataset.label_names:
            raise UsageError(f"{recipe.data.name} has no labels; leave --label out")
        raise unknown("label", label, [*dataset.label_names, *(["class"] if dataset.exclusive else [])])
    return (f"not {label}", label)


def condition(label: str, dataset: ImageDataset, labels: Tensor) -> Tensor | None:
    """One-hot labels (B, L) for a batch whose dataset labels are (B, all)."""
    if not label:
        return None
    if label == "class":
        return labels
    value = labels[:, dataset.label_names.index(label)]
    return torch.stack([1 - value, value], dim=1)


class Trainer:
    """A run's state: network, EMA, optimiser, objective with its replay buffer, generator, step."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: ImageDataset,
        accelerator: Accelerator,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.recipe, self.dataset, self.accelerator = recipe, dataset, accelerator
        device = accelerator.device
        seed = recipe.run.seed
        self.labels = condition_labels(recipe, dataset)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # torch's initialisers take no generator
            self.network = build_network(recipe.network, recipe.data.channels, len(self.labels)).to(device)
            self.ema = build_network(recipe.network, recipe.data.channels, len(self.labels)).to(device)
        self.ema.load_state_dict(self.network.state_dict())
        self.ema.requires_grad_(False)
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        settings = recipe.optimizer
        self.optimizer = torch.optim.Adam(self.parameters, settings.lr, settings.betas, settings.eps, fused=True)
        self.generator = seeded(seed + 7919 * accelerator.process_index, device)
        sampler = registry.find("sampler", recipe.sampler.name).load()(recipe.sampler.options, self.generator)
        transition = registry.find("augmentation", recipe.augment.name).load()(recipe.augment.options, self.generator)
        shape = (recipe.data.channels, recipe.data.size, recipe.data.size)
        make_objective = registry.find("objective", recipe.objective.name).load()
        try:
            self.objective = make_objective(recipe.objective.options, shape, sampler, transition)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.energy = Autocast(self.network, torch.bfloat16) if precision == "bf16" else self.network
        self.freeze = CompiledFreeze(self.energy) if compiled else frozen
        self.step = 0

    def train_step(self, batch: ImageBatch) -> StepMetrics:
        """One iteration of Algorithm 1; raises DivergedError before the weights are touched."""
        began = time.perf_counter()
        images = batch.images.to(self.accelerator.device)
        positives = to_float(images, self.generator if self.recipe.data.dequantize else None)
        label = condition(self.recipe.data.label, self.dataset, batch.labels.to(images.device))
        terms = self.objective.losses(self.energy, positives, label, self.freeze)
        try:
            gradients, logs = accumulate(terms, self.parameters)
            check_bound(logs["energy_data_scales"], self.recipe.run.energy_bound)
        except DivergedError as error:
            raise DivergedError(
                f"training diverged at step {self.step + 1}: {error}; "
                "try a lower optimizer.lr, a smaller sampler.step_size, or objective.kl_loss=true if it is off"
            ) from error
        values: dict[str, Any] = {name: _plain(value) for name, value in logs.items()}
        values["energy_difference"] = values["energy_data"] - values["energy_samples"]
        for group, parts in gradients.items():
            values[f"gradient_{group}"] = float(nn.utils.get_total_norm(parts))
        values["gradient"] = self._update(gradients)
        self.step += 1
        if self.recipe.optimizer.ema:
            update_ema(self.ema.parameters(), self.network.parameters(), self.recipe.optimizer.ema, self.step)
        values |= {"buffer": len(self.objective.buffer), "seconds": time.perf_counter() - began}
        return StepMetrics(self.step, {"step": self.step, **values})

    def _update(self, gradients: Mapping[str, list[Tensor]]) -> float:
        """Sum over groups, average over processes, clip, and step the optimiser; gives the norm before clipping."""
        total, *others = gradients.values()
        for parts in others:
            torch._foreach_add_(total, parts)
        if self.accelerator.num_processes > 1:
            flat = self.accelerator.reduce(torch.cat([g.flatten() for g in total]), "mean")
            total = [f.view_as(g) for f, g in zip(flat.split([g.numel() for g in total]), total, strict=True)]
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        limit = self.recipe.optimizer.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def averaged(self) -> EnergyNetwork:
        """The network to evaluate: the EMA, or the network itself where there is none."""
        return self.ema if self.recipe.optimizer.ema else self.network

    def batches(self) -> Iterator[ImageBatch]:
        """The run's batches from the present step on; their order depends on the seed and the step alone."""
        size = self.recipe.optimizer.batch_size
        order = IndexOrder(len(self.dataset), size, self.recipe.run.seed + 104729 * self.accelerator.process_index)
        return batches(self.dataset, order, self.step, self.recipe.data.workers)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on, as tensors and plain values."""
        tensors = {"generator": self.generator.get_state()}
        tensors |= _prefixed("network", self.network.state_dict())
        tensors |= _prefixed("ema", self.ema.state_dict())
        tensors |= _prefixed("objective", self.objective.state_dict())
        for index, entry in self.optimizer.state_dict()["state"].items():
            tensors |= _prefixed(f"optimizer.{index}", entry)
        return tensors, {"step": self.step, "processes": self.accelerator.num_processes}

    def load_state(self, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
        """Go on from a state; raises ValueError, KeyError or RuntimeError where it does not fit the recipe."""
        self.network.load_state_dict(_section(tensors, "network"))
        self.ema.load_state_dict(_section(tensors, "ema"))
        self.objective.load_state_dict(_section(tensors, "objective"))
        count = len(self.parameters) if "optimizer.0.step" in tensors else 0
        state = {index: _section(tensors, f"optimizer.{index}") for index in range(count)}
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.generator.set_state(tensors["generator"].cpu())
        self.step = int(document["step"])


def accumulate(
    terms: Iterable[LossTerm], parameters: list[nn.Parameter]
) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
    """Each group's gradient, summed over its terms, and the terms' logs; logs of one name are summed too.

    Raises DivergedError at the first loss that is not a finite number.
    """
    gradients: dict[str, list[Tensor]] = {}
    logs: dict[str, Tensor] = {}
    for term in terms:
        if not torch.isfinite(term.loss):
            raise DivergedError("the energies are no longer finite numbers")
        parts = torch.autograd.grad(term.loss, parameters, allow_unused=True, materialize_grads=True)
        if term.group in gradients:
            torch._foreach_add_(gradients[term.group], parts)
        else:
            gradients[term.group] = list(parts)
        for name, value in term.logs.items():
            logs[name] = logs[name] + value if name in logs else value
    return gradients, logs


def check_bound(energies: Tensor, bound: float) -> None:
    """Raise DivergedError where the data's mean energy (averaged over scales) leaves the authors' bound."""
    mean = float(energies.mean())
    if abs(mean) > bound:
        raise DivergedError(f"the mean energy of the data is {mean:.3g}, outside of [-{bound:g}, {bound:g}]")


def fit(trainer: Trainer) -> Iterator[StepMetrics]:
    """Train until the recipe's number of steps, yielding after each; stop by closing the iterator."""
    source = trainer.batches()
    while trainer.step < trainer.recipe.run.steps:
        yield trainer.train_step(next(source))


def _plain(value: Tensor) -> Any:
    return value.tolist() if value.ndim else value.item()


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _section(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}."): v for k, v in tensors.items() if k.startswith(f"{prefix}.")}
