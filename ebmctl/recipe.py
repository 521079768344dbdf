"""Recipes: all settings of a run. Defaults < recipe file < environment < flags."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from ebmctl import registry, settings
from ebmctl.core.config import SampleConfig
from ebmctl.errors import UsageError, unknown


@dataclass(frozen=True)
class DataConfig:
    """Images: the dataset's name, their size in pixels, 1 or 3 channels.

    `label` names the attribute whose two values condition the energy, or "class" for the dataset's classes; empty: an
    unconditional model. `dequantize` adds uniform noise of one grey level to the 8-bit values. `workers` is the
    number of processes that read images ahead.
    """

    name: str = ""
    size: int = 32
    channels: int = 3
    label: str = ""
    dequantize: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is 1 or 3, not {self.channels}")
        if not 4 <= self.size <= 1024:
            raise ValueError(f"size is between 4 and 1024 pixels, not {self.size}")
        if self.workers < 0:
            raise ValueError(f"workers is 0 or more, not {self.workers}")


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, the clipping of the gradient's norm (0: none), the batch size, and the decay of the EMA (0: none)."""

    lr: float = 2e-4
    betas: tuple[float, float] = (0.0, 0.9)
    eps: float = 1e-8
    clip: float = 0.5
    batch_size: int = 128
    ema: float = 0.9999

    def __post_init__(self) -> None:
        if not self.lr > 0 or not self.eps > 0 or self.batch_size < 1 or self.clip < 0:
            raise ValueError("lr and eps are above 0, batch_size at least 1, clip 0 or more")
        if not all(0 <= b < 1 for b in (*self.betas, self.ema)):
            raise ValueError("betas and ema are 0 or more, and under 1")


@dataclass(frozen=True)
class RunConfig:
    """Length and bookkeeping of a run, in training steps.

    Training ends with an error where the mean energy of the data (per scale) leaves [-energy_bound, energy_bound].
    """

    steps: int = 100_000
    seed: int = 0
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 2
    preview_every: int = 1_000
    energy_bound: float = 10.0

    def __post_init__(self) -> None:
        if min(self.steps, self.checkpoint_every, self.keep_checkpoints, self.preview_every) < 1:
            raise ValueError("steps, checkpoint_every, keep_checkpoints and preview_every are at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is between 0 and 2^63 - 1, not {self.seed}")
        if not self.energy_bound > 0:
            raise ValueError(f"energy_bound is above 0, not {self.energy_bound}")


@dataclass(frozen=True)
class Part:
    """A named choice from the registry with its own options, already checked."""

    name: str
    options: Any


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, but for the device."""

    about: str
    data: DataConfig
    network: Part
    objective: Part
    sampler: Part
    augment: Part
    sampling: SampleConfig
    optimizer: OptimizerConfig
    run: RunConfig

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as a recipe file holds them."""
        result: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Part):
                result[item.name] = {"name": value.name, **settings.plain(value.options)}
            else:
                result[item.name] = value if isinstance(value, str) else settings.plain(value)
        return result


_PARTS = {"network": "architecture", "objective": "objective", "sampler": "sampler", "augment": "augmentation"}
_DEFAULTS = {"network": "residual", "objective": "icd", "sampler": "langevin", "augment": "standard"}
_OTHER_RECIPES = {
    "celebahq": "celebahq128",
    "lsun-bedroom": "lsun-bedroom128",
    "cifar100": "cifar10",
    "svhn": "cifar10",
}
_CONFIGS = {"data": DataConfig, "sampling": SampleConfig, "optimizer": OptimizerConfig, "run": RunConfig}


def from_mapping(values: Mapping[str, Any]) -> Recipe:
    """Check plain values and make a recipe of them; raises UsageError with the key and the nearest known name."""
    known = ["about", *_CONFIGS, *_PARTS]
    for key, value in values.items():
        if key not in known:
            raise unknown("recipe section", key, known)
        if key != "about" and not isinstance(value, Mapping):
            raise UsageError(f"{key} is a section of a recipe; set a key of it, such as {key}.{_example(key)}")
    made: dict[str, Any] = {"about": settings.convert(values.get("about", ""), str, "about")}
    for section, cls in _CONFIGS.items():
        made[section] = settings.build(cls, values.get(section, {}), section)
    for section, kind in _PARTS.items():
        options = dict(values.get(section, {}))
        name = settings.convert(options.pop("name", _DEFAULTS[section]), str, f"{section}.name")
        config = registry.find(kind, name).load_options()
        made[section] = Part(name, settings.build(config, options, section))
    return Recipe(**made)


def _example(section: str) -> str:
    return "name=..." if section in _PARTS else f"{fields(_CONFIGS[section])[0].name}=..."


def bundled() -> list[str]:
    """The names of the recipes that ship."""
    folder = resources.files("ebmctl") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def read(name: str) -> dict[str, Any]:
    """The plain values of a recipe: a bundled one by its name, or a file by its path."""
    if name.endswith(".toml") or "/" in name or os.sep in name:
        return settings.read_toml(Path(name).expanduser())
    if name not in bundled():
        raise unknown("recipe", name, bundled())
    with resources.as_file(resources.files("ebmctl") / "recipes" / f"{name}.toml") as path:
        return settings.read_toml(path)


def resolve(dataset: str, recipe: str | None, assignments: Iterable[str], flags: Mapping[str, Any]) -> Recipe:
    """The recipe of a run from all its sources.

    `recipe` is a name or a file; without one it is the dataset's own, or else "default". `EBMCTL_SET` holds key=value
    pairs like `assignments` (the --set options), which win over it; `flags` are dotted keys that win over all.
    """
    registry.find_dataset(dataset)
    own = dataset if dataset in bundled() else _OTHER_RECIPES.get(dataset, "default")
    values = read(recipe or own)
    size, channels = registry.native_shape(dataset)
    values["data"] = {"size": size, "channels": channels, **values.get("data", {}), "name": dataset}
    for text in [*shlex.split(os.environ.get("EBMCTL_SET", "")), *assignments]:
        merge(values, *settings.parse_assignment(text))
    for key, value in flags.items():
        if value is not None:
            merge(values, key.split("."), value)
    return from_mapping(values)


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of training steps; the same one for None."""
    if steps is None:
        return recipe
    try:
        return replace(recipe, run=replace(recipe.run, steps=steps))
    except ValueError as error:
        raise UsageError(f"run: {error}") from error


def merge(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a dotted key in nested mappings."""
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise UsageError(f"{'.'.join(path)}: {key} has a value and no keys below it")
    values[path[-1]] = value
