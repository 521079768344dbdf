"""A trained model: its energy, and samples from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config.plan import SamplingPlan
from ebmctl.config.schema import Recipe
from ebmctl.core.energy import Conditioned, EnergyNetwork, energy_gradient, frozen
from ebmctl.core.fast import FastFreeze
from ebmctl.core.noise import seeded
from ebmctl.core.objective import Freeze
from ebmctl.errors import UsageError, unknown
from ebmctl.files import sha256
from ebmctl.models.device import described, device_of
from ebmctl.models.folder import ModelConfig, load_model
from ebmctl.models.form import EAGER, Form, Work, choose, prepare, told
from ebmctl.models.memory import check_fits, free_bytes, rows_of
from ebmctl.models.sampling import BATCH, batches, draw
from ebmctl.models.zoo import find_model

MEASURED = 64  # images
FEW_GRADIENTS = 10_000  # some seconds of the smallest models


@dataclass(frozen=True)
class Model:
    """An energy network with its configuration: p(x) is proportional to exp(-E(x)) (Equation 1).

    Called as a function it gives the energy (B,) with gradients, like `given()`; so `product(a, b)` takes models.
    """

    config: ModelConfig
    network: EnergyNetwork
    source: Path | None = None
    form: Form = EAGER
    rows: int = BATCH
    say: Callable[[str], None] = field(default=lambda _: None, compare=False)

    def sha256(self) -> str | None:
        """The checksum of the weights' file; None for a model that was not loaded from one."""
        return sha256(self.source / "model.safetensors") if self.source else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return self.config.shape

    @property
    def recipe(self) -> Recipe:
        """The recipe that trained it."""
        return self.config.recipe

    @torch.no_grad()
    def energy(self, x: Tensor, label: str | None = None) -> Tensor:
        """Energies (B,) of images (B, C, H, W) in [0, 1]; low for what looks like the data.

        The images may be on any device; the energies are on the model's. Raises UsageError for images of another
        shape, and for a label that the model does not know.
        """
        return self.terms(x, label).sum(1)

    @torch.no_grad()
    def terms(self, x: Tensor, label: str | None = None) -> Tensor:
        """Energies (B, S), one for each scale, that sum to `energy`.

        Raises UsageError for images of another shape, and for a label that the model does not know.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise UsageError(f"this model expects images of the shape (B, {', '.join(map(str, self.shape))})")
        energy = self.given(label)
        rows = rows_of(energy, len(x), self.shape, self.device)
        return torch.cat([energy.terms(part.to(self.device)) for part in torch.split(x, rows)])

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,) of images (B, C, H, W) in [0, 1], as a function that gradients go through."""
        return self.given()(x)

    def given(self, label: str | None = None) -> Conditioned:
        """The energy of any number of images with its label bound, for gradients: what `product` and others take.

        Raises UsageError for a label that the model does not know, or for none where it needs one.
        """
        return Conditioned(self.network, self.one_hot(label))

    def fixed(self, label: str | None = None) -> Conditioned:
        """The same for many evaluations: what depends on the parameters alone is computed once, now.

        It runs in the model's form.
        """
        return Conditioned(self.freeze(self.network), self.one_hot(label))

    @cached_property
    def freeze(self) -> Freeze:
        """What makes the network that `fixed` has; a compiled one is made once."""
        lower = self.form.lower
        return frozen if lower is None else FastFreeze(self.network, lower, self.rows, self.say)

    def quick(self, images: int, gradients: int, compile: str, say: Callable[[str], None]) -> Model:
        """The same model in the form that is best for so many gradients of each of some images; see `form.choose`.

        `say` is told in a line where that is not eager mode.
        """
        work = Work(0.0 if compile == "off" else self._seconds(images * gradients))
        form = choose(self.device, "tf32" if self.device.type == "cuda" else "fp32", compile, work)
        prepare(form)
        if form.execution != "eager":
            say(f"running on {described(self.device)}: {told(form, self.device)}")
        return replace(self, form=form, rows=min(images, BATCH), say=say)

    def _seconds(self, evaluations: int) -> float:
        """How long so many gradients take in eager mode, roughly; 0 for few, which are not worth measuring."""
        if evaluations < FEW_GRADIENTS:
            return 0.0
        label = self.config.labels[0] if self.config.labels else None
        energy, x = self.fixed(label), torch.zeros(MEASURED, *self.shape, device=self.device)
        energy_gradient(energy, x)
        began = time.perf_counter()
        float(energy_gradient(energy, x)[0, 0, 0, 0])  # which waits for the device
        return evaluations / MEASURED * (time.perf_counter() - began)

    def one_hot(self, label: str | None) -> Tensor | None:
        """A label as (1, L), or None for an energy without one; see `given`."""
        names = self.config.labels
        if not names:
            if label is not None:
                raise UsageError("this model is unconditional; it takes no label")
            return None
        if label is None and self.network.label_optional:
            return None
        if label is None:
            raise UsageError(f"this model is conditional; give one of its labels: {', '.join(names)}")
        if label not in names:
            raise unknown("label", label, names)
        return torch.eye(len(names), device=self.device)[[names.index(label)]]

    @property
    def scale_count(self) -> int:
        """How many terms an energy has, S."""
        energy = self.given(self.config.labels[0] if self.config.labels else None)
        with torch.no_grad():
            return energy.terms(torch.zeros(1, *self.shape, device=self.device)).shape[1]

    @property
    def device(self) -> torch.device:
        """Where its network is."""
        return next(self.network.parameters()).device


def load(reference: str | Path, device: str | torch.device = "auto") -> Model:
    """Load a model by its reference: a model folder or run folder, a name in the zoo, or USER/REPO on the Hub.

    Its device is by default the best one: a CUDA GPU where there is one, else Apple's ("mps"), else the CPU. Raises
    EbmctlError with one line, also for a device that this machine does not have.
    """
    where = device_of(device)  # before the weights are read, or fetched
    folder = find_model(str(reference))
    config, network = load_model(folder)
    return Model(config, network.to(where), folder)


def sample(
    model: Model,
    n: int = 64,
    seed: int = 0,
    *,
    label: str | None = None,
    flow_steps: int | None = None,
    rounds: int | None = None,
    steps: int | None = None,
    final_steps: int | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
) -> Tensor:
    """Draw n images (n, C, H, W) in [0, 1] with the sampling recipe that travels with the weights.

    That is the flow from noise, or Algorithm 2 with Langevin steps x <- x - step_size * grad E(x) + noise * N(0, 1)
    (Equation 3), or the one after the other; each number of steps can be changed. `sampler` names another sampler,
    a plugin's too, and `sampler_options` its settings. The same seed gives the same images.

    Raises UsageError for n under 1 or more than fit the memory, and for a label, a sampler or a setting that is not
    known.
    """
    plan = model.recipe.sampling_plan(
        flow_steps=flow_steps,
        rounds=rounds,
        steps=steps,
        final_steps=final_steps,
        sampler=sampler,
        sampler_options=sampler_options,
    )
    return samples(model, plan, n, seed, label)


def samples(model: Model, plan: SamplingPlan, n: int, seed: int, label: str | None = None) -> Tensor:
    """The same by a plan."""
    size = 4 * n * math.prod(plan.shape)
    check_fits(f"{n:,} images", size, free_bytes(model.device), "draw them in several calls with other seeds")
    return torch.cat(list(sample_batches(model, plan, n, seed, label)))


def sample_batches(model: Model, plan: SamplingPlan, n: int, seed: int, label: str | None = None) -> Iterator[Tensor]:
    """The same, batch after batch (B, C, H, W), none of which is kept."""
    energy, generator = model.fixed(label), seeded(seed, model.device)
    for count in batches(n):
        *_, last = draw(energy, plan, count, generator)
        yield last
