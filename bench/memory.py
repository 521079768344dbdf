"""Peak memory of a training step, against one forward and backward of its batch; each in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from bench import cifar


def status(field: str) -> int:
    """A size in /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def extra_peak(work: Callable[[], object]) -> int:
    """How far the memory rises above what is held now, while `work` runs (Linux)."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = status("VmRSS")
    work()
    return status("VmHWM") - before


def plain(pipe: Connection, batch: int) -> None:
    network = cifar.network()
    x = torch.rand(batch, 3, 32, 32)
    network(x[:1]).sum().backward()  # the libraries' own workspace, and the parameters' gradients
    pipe.send(extra_peak(lambda: network(x).sum().backward()))


def training(pipe: Connection, batch: int) -> None:
    from bench.step import trainer
    from ebmctl.config.recipe import resolve
    from ebmctl.data.base import ImageBatch

    settings = ["objective.steps=2", f"optimizer.batch_size={batch}"]
    made = trainer(resolve("cifar10", None, settings, {}))
    source = made.batches()
    one = next(source)
    made.train_step(ImageBatch(one.images[:1], one.labels[:1]))  # the optimiser's state, too
    images = next(source)
    pipe.send(extra_peak(lambda: made.train_step(images)))


def measure(target: Callable[[Connection, int], None], batch: int) -> int:
    here, there = multiprocessing.Pipe()
    # every tensor gets a mapping of its own, given back when it is freed: what the allocator keeps is not the program's
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    process = multiprocessing.get_context("spawn").Process(target=target, args=(there, batch))
    process.start()
    found: int = here.recv()
    process.join()
    return found


def main() -> None:
    for batch in (32, 128):  # 128 is the recipe's
        activations, step = measure(plain, batch), measure(training, batch)
        print(f"batch {batch}")
        print(f"one forward and backward {activations / 1e6:8.0f} MB")
        print(f"a training step          {step / 1e6:8.0f} MB")
        print(f"ratio                    {step / activations:8.2f}    (target: at most 1.3)")
