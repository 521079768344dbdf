"""Optimal pairing of noise and data against pairs as they come: what it costs on a GPU, and what it brings.

    python -m bench.gpu.pairing [--seconds 150] [--small]

Trains one network with each on CIFAR-10 (`EBMCTL_DATA`), from the same weights for as many steps as take so many
seconds with pairs as they come. Prints seconds a step, turn by turn, and the loss of either network on test images
under either pairing; pictures of both go to $OUT.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from bench.gpu.device import found_device, wait
from bench.gpu.parts import SMALL, Sizes, cifar10
from bench.timing import medians
from ebmctl.core.config import FlowConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork, frozen
from ebmctl.core.flow import flow
from ebmctl.core.matching import matching_loss, optimal_pairing
from ebmctl.core.noise import gaussian_noise
from ebmctl.data.base import ImageDataset, TensorImages
from ebmctl.data.transform import to_float
from ebmctl.models.form import Form, prepare
from ebmctl.models.pictures import save_grid
from ebmctl.training.trainer import Trainer, load_data

PAIRINGS = ("independent", "optimal")


def data(split: str, sizes: Sizes) -> ImageDataset:
    if sizes is SMALL:
        draw = torch.Generator().manual_seed(len(split))
        return TensorImages(torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=draw))
    return load_data(cifar10(sizes), "train" if split == "train" else "test")


def trainer(pairing: str, sizes: Sizes, device: torch.device) -> Trainer:
    settings = [f'objective.pairing="{pairing}"', "optimizer.ema=0.995"]
    recipe = cifar10(sizes, *settings, recipe="cifar10-energy-matching")
    form = Form("tf32", "captured") if device.type == "cuda" else Form()
    prepare(form)
    return Trainer(recipe, data("train", sizes), Accelerator(cpu=device.type == "cpu"), form)


def steps_of(made: Trainer) -> Iterator[None]:
    """Endless training steps."""
    source = made.batches()
    while True:
        made.launch(next(source))
        if len(made.unread) >= made.late:
            list(made.read())
        yield


def loss(network: EnergyNetwork, images: Tensor, pairing: str, rows: int = 128) -> float:
    """The matching loss on images, the same noise and times for every network."""
    generator = torch.Generator(images.device).manual_seed(0)
    fixed, total = Conditioned(frozen(network), None), 0.0
    for part in torch.split(images, rows):
        noise = gaussian_noise(len(part), part.shape[1:], generator)
        at = torch.rand(len(part), generator=generator, device=part.device)
        noise = noise[optimal_pairing(noise, part, None)] if pairing == "optimal" else noise
        total += float(matching_loss(fixed, noise, part, at).loss.detach()) * len(part) / len(images)
    return total


def picture(network: EnergyNetwork, shape: tuple[int, int, int], path: Path) -> None:
    generator = torch.Generator(next(network.parameters()).device).manual_seed(0)
    x = gaussian_noise(36, shape, generator)
    for moved in flow(Conditioned(frozen(network), None), x, FlowConfig(50), generator):
        x = moved
    save_grid(path, x.clamp(0, 1).cpu())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    device = found_device()
    given.small |= device.type == "cpu"
    sizes = SMALL if given.small else Sizes()
    made = {name: trainer(name, sizes, device) for name in PAIRINGS}
    steps = {name: steps_of(each) for name, each in made.items()}
    for _ in range(3):
        for name in PAIRINGS:
            next(steps[name])
    calls = [lambda name=name: next(steps[name]) for name in PAIRINGS]
    times = medians(*calls, wait=wait, seconds=given.seconds / 10)
    count = max(1, int(given.seconds / times[0]))
    images = to_float(data("test", sizes).__getitems__(range(64 if given.small else 1024)).images.to(device), None)
    for name, seconds in zip(PAIRINGS, times, strict=True):
        record = {"pairing": name, "step_seconds": seconds}
        print(json.dumps(record | trained(made[name], steps[name], count, images, name)), flush=True)
    print(f"an optimally paired step takes {1e3 * (times[1] - times[0]):.1f} ms more, {times[1] / times[0] - 1:.0%}")


def trained(made: Trainer, steps: Iterator[None], count: int, images: Tensor, name: str) -> dict[str, Any]:
    """Train for `count` steps, and look at the averaged network."""
    began = time.perf_counter()
    while made.step < count:
        next(steps)
    wait()
    seconds, network = time.perf_counter() - began, made.averaged()
    picture(network, made.recipe.shape, Path(os.environ.get("OUT") or ".") / f"pairing-{name}.png")
    losses = {pairing: loss(network, images, pairing) for pairing in PAIRINGS}
    return {"steps": made.step, "training_seconds": seconds, "losses": losses}


if __name__ == "__main__":
    main()
