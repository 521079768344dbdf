"""A trained model: its energy, and samples from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config import conversion, registry
from ebmctl.config.schema import Recipe
from ebmctl.core.energy import Conditioned, Energy, EnergyNetwork, frozen
from ebmctl.core.flow import flow
from ebmctl.core.langevin import Reporting, Sampler
from ebmctl.core.noise import gaussian_noise, seeded, uniform_noise
from ebmctl.core.sampling import Transition, chain
from ebmctl.errors import UsageError, unknown
from ebmctl.files import sha256
from ebmctl.models.folder import ModelConfig, load_model
from ebmctl.models.zoo import find_model

FLOW_FRAMES = 20  # of a flow that are shown


@dataclass(frozen=True)
class Model:
    """An energy network with what its folder says of it: p(x) is proportional to exp(-E(x)) (Equation 1).

    Called as a function it gives the energy (B,) with gradients, like `given()`; so `product(a, b)` takes models.
    """

    config: ModelConfig
    network: EnergyNetwork
    source: Path | None = None

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

        Raises UsageError for images of another shape, and for a label that the model does not know.
        """
        return self.terms(x, label).sum(1)

    @torch.no_grad()
    def terms(self, x: Tensor, label: str | None = None) -> Tensor:
        """Energies (B, S), one for each scale, that sum to `energy`.

        Raises UsageError for images of another shape, and for a label that the model does not know.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise UsageError(f"this model's images have the shape (B, {', '.join(map(str, self.shape))})")
        return Conditioned(self.network, self.one_hot(label, len(x), x.device)).terms(x)

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,) of images (B, C, H, W) in [0, 1], as a function that gradients go through."""
        return self.given()(x)

    def given(self, label: str | None = None) -> Energy:
        """The energy with its label bound, as a function that gradients go through: what `product` and others take."""

        def energy(x: Tensor) -> Tensor:
            return Conditioned(self.network, self.one_hot(label, len(x), x.device))(x)

        return energy

    def one_hot(self, label: str | None, count: int, device: torch.device) -> Tensor | None:
        """`count` labels (count, L), or None for an energy without one.

        Raises UsageError for a label that the model does not know, or for none where it needs one.
        """
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
        return torch.eye(len(names), device=device)[names.index(label)].expand(count, -1)


def load(reference: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a model from its reference: a model folder, or a run folder. Raises EbmctlError with one line."""
    folder = find_model(str(reference))
    config, network = load_model(folder)
    return Model(config, network.to(device), folder)


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

    Raises UsageError for n under 1, and for a label, a sampler or a setting that is not known.
    """
    changes = {"flow_steps": flow_steps, "rounds": rounds, "steps": steps, "final_steps": final_steps}
    how: dict[str, Any] = {"sampler": sampler, "sampler_options": sampler_options}
    *_, last = sample_chain(model, n, seed, label=label, changes=changes, **how)
    return last


def sample_chain(
    model: Model,
    n: int,
    seed: int,
    *,
    label: str | None = None,
    changes: dict[str, int | None] | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    report: dict[str, float] | None = None,
) -> Iterator[Tensor]:
    """The chains of `sample`: (n, C, H, W) in [0, 1] from their noise on, some on the flow, one after each round.

    `report` is given what the sampler reports of its steps at the end (see `core.langevin.Reporting`).
    """
    device = next(model.network.parameters()).device
    energy = Conditioned(frozen(model.network), model.one_hot(label, max(n, 0), device))
    how: dict[str, Any] = {"sampler": sampler, "sampler_options": sampler_options, "report": report}
    yield from draw_chain(energy, model.recipe, n, seeded(seed, device), changes=changes, **how)


def draw_chain(
    energy: Energy,
    recipe: Recipe,
    n: int,
    generator: torch.Generator,
    *,
    changes: dict[str, int | None] | None = None,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    report: dict[str, float] | None = None,
) -> Iterator[Tensor]:
    """The chains of any energy by a recipe, (n, C, H, W) in [0, 1]; see `sample_chain`."""
    if n < 1:
        raise UsageError(f"the number of samples is at least 1, not {n}")
    recipe = _changed(recipe, changes or {})
    shape = (recipe.data.channels, recipe.data.size, recipe.data.size)
    kernel, transition = chain_parts(recipe, generator, sampler, sampler_options)
    x = (gaussian_noise if recipe.flow.steps else uniform_noise)(n, shape, generator)
    yield x.clamp(0, 1)
    shown = _shown_steps(recipe)
    for step, moved in enumerate(flow(energy, x, recipe.flow, generator), start=1):
        x = moved
        if step in shown:
            yield x.clamp(0, 1)
    yield from chain(energy, x.clamp(0, 1), kernel, transition, recipe.sampling)
    if report is not None and isinstance(kernel, Reporting):
        report |= kernel.report()


def frames(recipe: Recipe, changes: dict[str, int | None] | None = None) -> int:
    """How many times `draw_chain` yields, its start included."""
    recipe = _changed(recipe, changes or {})
    return 1 + len(_shown_steps(recipe)) + recipe.sampling.rounds + bool(recipe.sampling.final_steps)


def _shown_steps(recipe: Recipe) -> set[int]:
    """The steps of the flow after which the images are shown."""
    return {round(recipe.flow.steps * part / FLOW_FRAMES) for part in range(1, FLOW_FRAMES + 1)} - {0}


def chain_parts(
    recipe: Recipe,
    generator: torch.Generator,
    sampler: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
) -> tuple[Sampler, Transition]:
    """A recipe's sampler, or another one by its name, and its transition: what Algorithm 2 alternates."""
    entry = registry.find("sampler", sampler or recipe.sampler.name)
    own = conversion.plain(recipe.sampler.options) if entry.name == recipe.sampler.name else {}
    options: Any = conversion.build(entry.load_options(), {**own, **(sampler_options or {})}, "sampler")
    kernel: Sampler = entry.make(options, generator)
    transition: Transition = registry.find("augmentation", recipe.augment.name).make(recipe.augment.options, generator)
    return kernel, transition


def _changed(recipe: Recipe, changes: dict[str, int | None]) -> Recipe:
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        flow_config = replace(recipe.flow, steps=given.pop("flow_steps", recipe.flow.steps))
        return replace(recipe, flow=flow_config, sampling=replace(recipe.sampling, **given))
    except ValueError as error:
        raise UsageError(f"sampling: {error}") from error
