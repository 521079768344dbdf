"""What the steps of a run take, measured on random images. Neither the process nor a run is changed by it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ebmctl.config.dataset import DatasetName
from ebmctl.config.schema import OptimizerConfig, Recipe
from ebmctl.core.noise import seeded
from ebmctl.data.base import ImageBatch, TensorImages
from ebmctl.data.drawn.objects import ATTRIBUTES
from ebmctl.models.form import Form
from ebmctl.training.trainer import Trainer

CLASSES = {"cifar100": 100, "imagenet32": 1000}  # others count as 10
PATTERN = 256  # different images in a filled buffer

Span = tuple[float, float]


class Meter:
    """A trainer of its own that takes steps on random images while the clock runs.

    The weights hardly move, so that no step diverges; the replay buffers are full, so that the KL loss has both of its
    parts. On a GPU the clock is read when all is done there.
    """

    def __init__(
        self,
        recipe: Recipe,
        accelerator: Accelerator,
        form: Form,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.recipe, self.device = recipe, accelerator.device
        self.images = random_images(recipe)
        self.trainer = Trainer(_at_rest(recipe), self.images, accelerator, form, say)
        self.buffers = [objective.buffer for objective in self.trainer.objectives if objective.buffer is not None]
        for buffer in self.buffers:
            _fill(buffer.images)
            buffer.seen = len(buffer.images)
        self.enter(0)

    def enter(self, phase: int, images: int | None = None) -> None:
        """Go to a phase of the run, which has its own objective and batches; of these take so many images at most."""
        shares = [each.share for each in self.recipe.schedule]
        self.trainer.advance(sum(shares[:phase]) + shares[phase] / 2)
        self.whole = self.trainer.objectives[phase]
        batch_size = self.trainer.settings.batch_size
        self.batch = ImageBatch(*self.images.__getitems__(range(min(batch_size, images or batch_size))))

    @property
    def chain_steps(self) -> int:
        """How many steps the phase's chains have in the run; 0: it has none."""
        return self.whole.chain_steps

    def seconds(self, length: int, count: int = 1) -> float:
        """Seconds of a step with chains of this length, the mean of `count` that are read together."""
        began = self._now()
        self._steps(length, count)
        return (self._now() - began) / count

    def busy(self, length: int, count: int = 4) -> float | None:
        """The share of a step's time in which a GPU has something to do; None where the profiler sees nothing.

        The time is that of steps without the profiler, which slows down the host.
        """
        seconds = self.seconds(length, count)
        spans = gpu_spans(lambda: self._steps(length, 1))
        return min(covered(spans) / seconds, 1.0) if spans else None

    def _steps(self, length: int, count: int) -> None:
        trainer = self.trainer
        trainer.objective = self.whole.with_chain_steps(length) if length else self.whole
        for _ in range(count):
            trainer.launch(self.batch)
        deque(trainer.read(), maxlen=0)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def random_images(recipe: Recipe) -> TensorImages:
    """A batch of random images with labels of the kind that the recipe names: each value as often as the others."""
    count = max(phase.optimizer.batch_size for phase in recipe.schedule)
    images = torch.randint(0, 256, (count, *recipe.shape), dtype=torch.uint8, generator=seeded(0))
    label = recipe.data.label
    if not label:
        return TensorImages(images)
    source = DatasetName.parse(recipe.data.name).source
    if label == "class":
        names = [str(number) for number in range(CLASSES.get(source, 10))]
    elif source == "objects" and label in ATTRIBUTES:
        names = [f"{label}={value}" for value in ATTRIBUTES[label]]
    else:
        return TensorImages(images, (torch.arange(count) % 2)[:, None], [label], exclusive=False)
    return TensorImages(images, torch.eye(len(names))[torch.arange(count) % len(names)], names, label == "class")


def gpu_spans(work: Callable[[], object]) -> list[Span]:
    """When, in seconds, a GPU was at work on what `work` asks of it: kernels and copies, as they come."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    events: Iterable[Any] = seen.events() or ()
    own = (e for e in events if e.device_type.name == "CUDA" and not getattr(e, "is_user_annotation", False))
    return [(e.time_range.start / 1e6, e.time_range.end / 1e6) for e in own]


def covered(spans: Iterable[Span]) -> float:
    """How long at least one of the spans lasts: where some overlap, their time counts once."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, until), 0.0)
        until = max(until, end)
    return total


def _at_rest(recipe: Recipe) -> Recipe:
    """A recipe whose steps do the same work, but hardly move the weights."""

    def slow(settings: OptimizerConfig) -> OptimizerConfig:
        return replace(settings, lr=1e-8)  # less would make what is 0 so small that processors are slow with it

    phases = tuple(replace(phase, optimizer=slow(phase.optimizer)) for phase in recipe.phases)
    run = replace(recipe.run, energy_bound=1e30)
    return replace(recipe, optimizer=slow(recipe.optimizer), phases=phases, run=run)


def _fill(images: Tensor) -> None:
    """Fill images (N, C, H, W), uint8, with a few random ones again and again: a large buffer is filled in no time."""
    shape, device = (min(PATTERN, len(images)), *images.shape[1:]), images.device
    pattern = torch.randint(0, 256, shape, dtype=torch.uint8, device=device, generator=seeded(0, device))
    for start in range(0, len(images), PATTERN):
        part = images[start : start + PATTERN]
        part.copy_(pattern[: len(part)])
