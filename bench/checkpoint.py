"""What a checkpoint with a replay buffer of 10,000 x 3 x 128 x 128 (490 MB) costs training."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator

from ebmctl.config.recipe import resolve
from ebmctl.data.base import TensorImages
from ebmctl.training.folder import RunFolder
from ebmctl.training.loop import train
from ebmctl.training.trainer import Trainer

STEPS, EVERY = 60, 20
SMALL = ["network.width=8", "objective.steps=2", "optimizer.batch_size=4", "objective.buffer_policy=fifo"]


def seconds(root: Path, every: int) -> Iterator[float]:
    """The time of each step of a small network with the large buffer."""
    recipe = resolve("celebahq", "celebahq128", [*SMALL, f"run.checkpoint_every={every}", f"run.steps={STEPS}"], {})
    trainer = Trainer(recipe, TensorImages(torch.zeros(64, 3, 128, 128, dtype=torch.uint8)), Accelerator())
    trainer.objective.buffer.images.random_(0, 256)
    trainer.objective.buffer.seen = 10_000
    began = time.perf_counter()
    for _event in train(trainer, RunFolder.create(root / str(every), recipe), seconds=None, stopped=lambda: False):
        yield (now := time.perf_counter()) - began
        began = now


def main() -> None:
    interval = resolve("celebahq", "celebahq128", [], {}).run.checkpoint_every
    with tempfile.TemporaryDirectory(dir=".") as folder:
        saving, plain = (list(seconds(Path(folder), every)) for every in (EVERY, STEPS + 1))
    cost = (sum(saving[:-1]) - sum(plain[:-1])) / (STEPS // EVERY - 1)  # the last event writes, in both
    step = statistics.median(plain)
    print(f"one checkpoint costs     {cost:8.2f} s of training, {cost / step:.1f} of this bench's small steps")
    print(f"at the default interval  {cost / (interval * step):8.4f} of the time (target: at most 0.05)")


if __name__ == "__main__":
    main()
