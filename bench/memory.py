"""Peak memory of a training step, against one forward and backward of its batch; each in a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection

import torch

from bench import cifar


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def plain(pipe: Connection) -> None:
    network = cifar.network()
    x = torch.rand(cifar.SHAPE)
    network(x[:1]).sum().backward()  # the libraries' own workspace, and the parameters' gradients
    before = peak()
    network(x).sum().backward()
    pipe.send(peak() - before)


def training(pipe: Connection) -> None:
    from bench.step import trainer
    from ebmctl.data.base import ImageBatch
    from ebmctl.recipe import resolve

    settings = ["objective.steps=2", f"optimizer.batch_size={cifar.BATCH}"]
    made = trainer(resolve("cifar10", None, settings, {}))
    source = made.batches()
    one = next(source)
    made.train_step(ImageBatch(one.images[:1], one.labels[:1]))  # the optimiser's state, too
    before = peak()
    made.train_step(next(source))
    pipe.send(peak() - before)


def measure(target: Callable[[Connection], None]) -> int:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=target, args=(there,))
    process.start()
    found: int = here.recv()
    process.join()
    return found


def main() -> None:
    activations, step = measure(plain), measure(training)
    print(f"one forward and backward {activations / 1e6:8.0f} MB")
    print(f"a training step          {step / 1e6:8.0f} MB")
    print(f"ratio                    {step / activations:8.2f}    (target: at most 1.3)")
