"""What is timed: each part as a call that enqueues its work, in any form, at full size or small enough for a CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor

from bench.gpu.unet import UNetConfig, UNetEnergy
from ebmctl.config.recipe import resolve
from ebmctl.config.schema import Recipe
from ebmctl.core.config import FlowConfig, SampleConfig
from ebmctl.core.ema import update_ema
from ebmctl.core.energy import Autocast, Conditioned, EnergyNetwork, energy_gradient, frozen
from ebmctl.core.fast import Fast
from ebmctl.core.matching import matching_loss
from ebmctl.core.noise import gaussian_noise, uniform_noise
from ebmctl.core.sampling import chain
from ebmctl.data.base import ImageBatch, TensorImages
from ebmctl.models.folder import build_network
from ebmctl.models.form import Form
from ebmctl.models.sampling import make_parts
from ebmctl.training.trainer import Trainer

VARIANTS = {
    "eager fp32": Form("fp32", "eager"),
    "eager tf32": Form("tf32", "eager"),
    "captured fp32": Form("fp32", "captured"),
    "captured tf32": Form("tf32", "captured"),
    "compiled fp32": Form("fp32", "compiled"),
    "compiled tf32": Form("tf32", "compiled"),
    "compiled bf16": Form("bf16", "compiled"),
}


@dataclass(frozen=True)
class Sizes:
    """How much work a call is, and changes of the recipe."""

    settings: tuple[str, ...] = ()
    batch: int = 128  # of training, as in the recipes
    chains: int = 512  # that are sampled, or images that are scored, at a time
    unet: UNetConfig = field(default_factory=UNetConfig)
    data: int = 512
    chain_steps: int = 0  # K; 0: the recipe's


SMALL = Sizes(
    (
        *("data.size=8", "network.width=4", "network.blocks=[0]", "network.multipliers=[1]", "network.scales=1"),
        *("network.attention=1", "optimizer.batch_size=4", "sampling.rounds=2", "sampling.steps=2"),
        "sampling.final_steps=2",
    ),
    batch=4,
    chains=4,
    unet=UNetConfig(4, (1, 2), 1, 8, 4),
    data=16,
    chain_steps=4,
)


@dataclass(frozen=True)
class Job:
    """A call, and the images that it makes, scores or trains on."""

    call: Callable[[], object]
    images: int


Part = Callable[[Form, Sizes, torch.device], Job]
said: list[str] = []  # what is compiled, and what could not be


def say(line: str) -> None:
    said.append(line)
    print(line, file=sys.stderr, flush=True)


def in_form(network: EnergyNetwork, form: Form) -> EnergyNetwork:
    """A network that runs in a form."""
    energy = Autocast(network, torch.bfloat16) if form.precision == "bf16" else network
    return energy if form.lower is None else Fast(energy, form.lower, say=say)


def cifar10(sizes: Sizes, *more: str, recipe: str | None = None) -> Recipe:
    return resolve("cifar10", recipe, ["run.energy_bound=1e30", *more, *sizes.settings], {})


def fixed(recipe: Recipe, form: Form, device: torch.device) -> Conditioned:
    """A recipe's network with fixed parameters, as samplers and scores take it."""
    torch.manual_seed(0)
    network = build_network(recipe.network, recipe.data.channels, 0).to(device)
    return Conditioned(in_form(frozen(network), form), None)


def langevin(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """A Langevin step of a training batch."""
    recipe, generator = cifar10(sizes), torch.Generator(device).manual_seed(0)
    energy, x = fixed(recipe, form, device), uniform_noise(sizes.batch, recipe.shape, generator)
    sampler, _ = make_parts(recipe.sampling_plan(), generator)
    return Job(lambda: sampler.step(energy, x), sizes.batch)


def sample(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """A round of the recipe's sampling with its share of the last steps; all rounds make the images."""
    recipe, generator = cifar10(sizes), torch.Generator(device).manual_seed(0)
    plan = recipe.sampling_plan()
    energy, x = fixed(recipe, form, device), uniform_noise(sizes.chains, recipe.shape, generator)
    sampler, augmentation = make_parts(plan, generator)
    whole = plan.rounds
    one = SampleConfig(1, whole.steps, round(whole.final_steps / whole.rounds))

    def call() -> None:
        for _ in chain(energy, x, FlowConfig(), one, sampler, augmentation, generator):
            pass

    return Job(call, round(sizes.chains / whole.rounds))


def score(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """Energies of images."""
    recipe = cifar10(sizes)
    energy = fixed(recipe, form, device)
    x = torch.rand(sizes.chains, *recipe.shape, device=device)

    @torch.no_grad()
    def call() -> Tensor:
        return energy.terms(x)

    return Job(call, sizes.chains)


def score_gradient(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """Norms of the gradients of images, another outlier score."""
    recipe = cifar10(sizes)
    energy = fixed(recipe, form, device)
    x = torch.rand(sizes.chains, *recipe.shape, device=device)
    return Job(lambda: energy_gradient(energy, x).flatten(1).norm(dim=1), sizes.chains)


def training(recipe: Recipe, form: Form, sizes: Sizes, device: torch.device, phase: int = 0) -> Job:
    """A training step on random images, with a full replay buffer where there is one; its metrics are never read."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (sizes.data, *recipe.shape), dtype=torch.uint8, generator=draw)
    trainer = Trainer(recipe, TensorImages(pixels), Accelerator(cpu=device.type == "cpu"), form, say=say)
    trainer._enter(phase)
    if (buffer := trainer.objective.buffer) is not None:
        for _ in range(len(buffer.images) // 1000 or 1):
            starts = torch.rand(
                min(1000, len(buffer.images)), *recipe.shape, generator=trainer.generator, device=device
            )
            buffer.add(starts, trainer.generator)
    size = recipe.schedule[phase].optimizer.batch_size
    batch = ImageBatch(pixels[:size], torch.zeros(size, 0))

    def call() -> None:
        trainer.launch(batch)
        trainer.unread.clear()

    return Job(call, size)


def icd(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """A step of the paper's objective, K = 40."""
    few = [f"objective.steps={sizes.chain_steps}"] if sizes.chain_steps else []
    return training(cifar10(sizes, *few), form, sizes, device)


def matching(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """A step of Energy Matching with the paper's network; pairs as they come, for optimal ones make the host wait."""
    recipe = cifar10(sizes, 'objective.pairing="independent"', recipe="cifar10-energy-matching")
    return training(recipe, form, sizes, device)


def matching_unet(form: Form, sizes: Sizes, device: torch.device) -> Job:
    """The same step with the U-Net, as the trainer takes it."""
    recipe = cifar10(sizes)
    torch.manual_seed(0)
    network = UNetEnergy(sizes.unet, recipe.data.channels, recipe.data.size).to(device)
    average = frozen(network)
    generator = torch.Generator(device).manual_seed(0)
    data = torch.rand(sizes.batch, *recipe.shape, generator=generator, device=device)
    energy, parameters = Conditioned(in_form(network, form), None), list(network.parameters())
    optimizer = torch.optim.Adam(parameters, 6e-4, (0.9, 0.99), fused=True)

    def call() -> None:
        noise = gaussian_noise(len(data), data.shape[1:], generator)
        time = torch.rand(len(data), generator=generator, device=device)
        found = torch.autograd.grad(matching_loss(energy, noise, data, time).loss, parameters, allow_unused=True)
        for parameter, part in zip(parameters, found, strict=True):
            parameter.grad = torch.zeros_like(parameter) if part is None else torch.empty_like(parameter).copy_(part)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        update_ema(average.parameters(), parameters, 0.9995, 1000)

    return Job(call, len(data))


def digits(recipe: str, phase: int) -> Part:
    """A step of a phase of a recipe for digits."""

    def part(form: Form, sizes: Sizes, device: torch.device) -> Job:
        settings = ["run.energy_bound=1e30", *(["optimizer.batch_size=4"] if sizes.chain_steps else [])]
        return training(resolve("digits", recipe, settings, {}), form, sizes, device, phase)

    return part


PARTS: dict[str, Part] = {
    "langevin": langevin,
    "sample": sample,
    "score": score,
    "score-gradient": score_gradient,
    "icd": icd,
    "matching": matching,
    "matching-unet": matching_unet,
    "digits, phase 1": digits("digits", 0),
    "digits, phase 2": digits("digits", 1),
    "digits-icd": digits("digits-icd", 0),
}
