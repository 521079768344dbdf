"""What a run needs: parameters, memory and time, from a few measured steps on random images."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator

from ebmctl.config.schema import Recipe
from ebmctl.core.noise import seeded
from ebmctl.data.base import ImageBatch, TensorImages
from ebmctl.models.form import EAGER, Form
from ebmctl.training.trainer import Trainer


def estimate(recipe: Recipe, accelerator: Accelerator, form: Form) -> dict[str, Any]:
    """Estimates for a run: `parameters`, `memory_state` and `memory_peak` in bytes, `seconds_per_step`, `seconds`.

    Steps are measured with few sampler steps and extrapolated to the recipe's K, in which their time is linear. The
    replay buffer is filled first, so that the KL loss has both of its parts. Reading and decoding of files is not in
    the estimate: the images are random.
    """
    images = torch.randint(0, 256, (16, recipe.data.channels, recipe.data.size, recipe.data.size), dtype=torch.uint8)
    name = recipe.data.label
    labels = torch.zeros(16, 10 if name == "class" else 1)
    names = [str(i) for i in range(10)] if name == "class" else [name]
    dataset = TensorImages(images, labels, names if name else (), exclusive=name == "class")
    total = 0.0
    for phase in recipe.schedule:
        alone = replace(recipe, objective=phase.objective, optimizer=phase.optimizer, phases=())
        trainer = Trainer(alone, dataset, accelerator, form)
        total += _seconds_per_step(trainer, dataset) * phase.share * recipe.run.steps
    parameters = sum(p.numel() for p in trainer.network.parameters())
    state = 4 * parameters * 5  # weights, gradient, two moments, EMA
    if (buffer := trainer.objective.buffer) is not None:
        state += buffer.images.numel()  # uint8, all of it is allocated from the start
    return {
        "parameters": parameters,
        "memory_state": state,
        "memory_peak": _peak(accelerator.device),
        "seconds_per_step": total / recipe.run.steps,
        "seconds": total,
    }


def _seconds_per_step(trainer: Trainer, dataset: TensorImages) -> float:
    """Seconds of a step whose chains have all of their steps, from what two lengths of few steps take."""
    whole = trainer.objective
    if not whole.chain_steps:
        return _measure(trainer, dataset)
    few = min(whole.chain_steps, 2)
    trainer.objective = whole.with_chain_steps(few)
    short = _measure(trainer, dataset)
    if whole.chain_steps == few:
        return short
    trainer.objective = whole.with_chain_steps(few + 2)
    longer = _measure(trainer, dataset)
    return short + (whole.chain_steps - few) * max(longer - short, 0.0) / 2


def _measure(trainer: Trainer, dataset: TensorImages) -> float:
    """Seconds of a training step: the faster of two after one to warm up."""
    batch_size = trainer.recipe.optimizer.batch_size
    if (buffer := trainer.objective.buffer) is not None:
        shape, device = buffer.images.shape, buffer.images.device
        buffer.add(torch.rand((min(shape[0], 2000), *shape[1:]), device=device), seeded(0, device))
    batch = ImageBatch(*dataset.__getitems__([i % len(dataset) for i in range(batch_size)]))
    times = []
    for _ in range(3):
        began = time.perf_counter()
        trainer.train_step(batch)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes but on macOS


def eager_seconds(recipe: Recipe, accelerator: Accelerator) -> float:
    """How long a run would take in eager mode, roughly."""
    seconds: float = estimate(recipe, accelerator, EAGER)["seconds"]
    return seconds
