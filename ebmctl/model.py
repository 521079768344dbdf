"""A trained model: its energy, and samples from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ebmctl import registry, settings
from ebmctl.checkpoint import ModelConfig, load_model, seeded
from ebmctl.core.config import SampleConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork, frozen
from ebmctl.core.sampling import chain, uniform_noise
from ebmctl.errors import UsageError, unknown
from ebmctl.recipe import Recipe
from ebmctl.zoo import find_model


@dataclass(frozen=True)
class Model:
    """An energy network with what its folder says of it."""

    config: ModelConfig
    network: EnergyNetwork

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
        """Energies (B,) of images (B, C, H, W) in [0, 1]; low for what looks like the data."""
        return self.terms(x, label).sum(1)

    @torch.no_grad()
    def terms(self, x: Tensor, label: str | None = None) -> Tensor:
        """Energies (B, S), one for each scale, that sum to `energy`.

        Raises UsageError for images of another shape, and for a label that the model does not know.
        """
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise UsageError(f"this model's images have the shape (B, {', '.join(map(str, self.shape))})")
        return Conditioned(self.network, self.one_hot(label, len(x), x.device)).terms(x)

    def one_hot(self, label: str | None, count: int, device: torch.device) -> Tensor | None:
        """`count` labels (count, L), or None for an unconditional model."""
        names = self.config.labels
        if not names:
            if label is not None:
                raise UsageError("this model is unconditional; it takes no label")
            return None
        if label is None:
            raise UsageError(f"this model is conditional; give one of its labels: {', '.join(names)}")
        if label not in names:
            raise unknown("label", label, names)
        return torch.eye(len(names), device=device)[names.index(label)].expand(count, -1)


def load(reference: str | Path, device: str | torch.device = "cpu") -> Model:
    """Load a model from its reference: a model folder, or a run folder. Raises EbmctlError with one line."""
    config, network = load_model(find_model(str(reference)))
    return Model(config, network.to(device))


def sample(
    model: Model,
    n: int = 64,
    seed: int = 0,
    *,
    label: str | None = None,
    rounds: int | None = None,
    steps: int | None = None,
    final_steps: int | None = None,
    sampler: str | None = None,
) -> Tensor:
    """Draw n images (n, C, H, W) in [0, 1] by Algorithm 2, with the sampling recipe that travels with the weights."""
    changes = {"rounds": rounds, "steps": steps, "final_steps": final_steps}
    *_, last = sample_chain(model, n, seed, label=label, changes=changes, sampler=sampler)
    return last


def sample_chain(
    model: Model,
    n: int,
    seed: int,
    *,
    label: str | None = None,
    changes: dict[str, int | None] | None = None,
    sampler: str | None = None,
) -> Iterator[Tensor]:
    """The chains of `sample` from their noise on: (n, C, H, W) at the start and after each round of Algorithm 2."""
    if n < 1:
        raise UsageError(f"the number of samples is at least 1, not {n}")
    config = _changed(model.recipe.sampling, changes or {})
    device = next(model.network.parameters()).device
    generator = seeded(seed, device)
    part = model.recipe.sampler
    entry = registry.find("sampler", sampler or part.name)
    options = part.options if entry.name == part.name else settings.build(entry.load_options(), {}, "sampler")
    kernel = entry.load()(options, generator)
    augment = model.recipe.augment
    transition = registry.find("augmentation", augment.name).load()(augment.options, generator)
    energy = Conditioned(frozen(model.network), model.one_hot(label, n, device))
    start = uniform_noise(n, model.shape, generator)
    yield start
    yield from chain(energy, start, kernel, transition, config)


def _changed(config: SampleConfig, changes: dict[str, int | None]) -> SampleConfig:
    try:
        return replace(config, **{key: value for key, value in changes.items() if value is not None})
    except ValueError as error:
        raise UsageError(f"sampling: {error}") from error
