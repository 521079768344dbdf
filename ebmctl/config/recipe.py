"""Recipes: all settings of a run. Defaults < recipe file < environment < flags."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from importlib import resources
from typing import Any

from ebmctl.config import conversion, registry
from ebmctl.config.dataset import USUAL_SHAPE, DatasetName
from ebmctl.config.parts import Part
from ebmctl.config.schema import (
    ComposeConfig,
    DataConfig,
    EvalConfig,
    GuardConfig,
    OodConfig,
    OptimizerConfig,
    Phase,
    Recipe,
    RunConfig,
)
from ebmctl.core.config import FlowConfig, SampleConfig
from ebmctl.errors import UsageError, unknown
from ebmctl.files import user_path

# The sections of a recipe: those that choose by name, what they choose where there is no name, and the others.
PARTS = {"network": "architecture", "objective": "objective", "sampler": "sampler", "augment": "augmentation"}
DEFAULTS = {"network": "residual", "objective": "icd", "sampler": "langevin", "augment": "standard"}
CONFIGS = {
    "data": DataConfig,
    "flow": FlowConfig,
    "sampling": SampleConfig,
    "optimizer": OptimizerConfig,
    "run": RunConfig,
    "guard": GuardConfig,
    "eval": EvalConfig,
    "ood": OodConfig,
    "compose": ComposeConfig,
}


def from_mapping(values: Mapping[str, Any]) -> Recipe:
    """Check plain values and make a recipe of them; raises UsageError with the key and the nearest known name."""
    known = ["about", "phases", *CONFIGS, *PARTS]
    for key, value in values.items():
        if key not in known:
            raise unknown("recipe section", key, known)
        if key not in ("about", "phases") and not isinstance(value, Mapping):
            raise UsageError(f"{key} is a section of the recipe; set one of its keys, such as {key}.{_example(key)}")
    made: dict[str, Any] = {"about": conversion.convert(values.get("about", ""), str, "about")}
    for section, cls in CONFIGS.items():
        made[section] = conversion.build(cls, values.get(section, {}), section)
    for section in PARTS:
        made[section] = _part(section, values.get(section, {}), section)
    made["phases"] = _phases(values)
    try:
        return Recipe(**made)
    except ValueError as error:
        raise UsageError(str(error)) from error


def migrated(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of a run or a model, with the section `compose` that those from before it existed lack."""
    objective, network = values.get("objective"), values.get("network")
    if "compose" in values or not isinstance(objective, Mapping) or not isinstance(network, Mapping):
        return values
    if not objective.get("label_weight"):
        return values
    strength, temperature = 32.0 if network.get("label_head") else 4.0, objective.get("label_temperature", 0.0625)
    return {**values, "compose": {"strength": strength, "or_temperature": temperature}}


def _part(section: str, values: Mapping[str, Any], where: str) -> Part:
    options = dict(values)
    name = conversion.convert(options.pop("name", DEFAULTS[section]), str, f"{where}.name")
    config = registry.find(PARTS[section], name).load_options()
    return Part(name, conversion.build(config, options, where))


def _phases(values: Mapping[str, Any]) -> tuple[Phase, ...]:
    """The phases; each starts from the recipe's optimizer, and from its objective where that has the same name."""
    phases = values.get("phases", [])
    if not isinstance(phases, list) or not all(isinstance(phase, Mapping) for phase in phases):
        raise UsageError("phases must be a list of tables, such as [[phases]] with share = 0.5")
    made = []
    base = {"name": DEFAULTS["objective"], **values.get("objective", {})}
    for index, phase in enumerate(phases):
        where = f"phases.{index}"
        for key in phase:
            if key not in ("share", "objective", "optimizer"):
                raise unknown("key", f"{where}.{key}", [f"{where}.{k}" for k in ("share", "objective", "optimizer")])
        parts = {key: phase.get(key, {}) for key in ("objective", "optimizer")}
        for key, value in parts.items():
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}.{key} must be a table, not {value!r}")
        objective = parts["objective"]
        if objective.get("name", base["name"]) == base["name"]:
            objective = {**base, **objective}
        optimizer = {**values.get("optimizer", {}), **parts["optimizer"]}
        share = conversion.convert(phase.get("share", 0.0), float, f"{where}.share")
        try:
            made.append(
                Phase(
                    share,
                    _part("objective", objective, f"{where}.objective"),
                    conversion.build(OptimizerConfig, optimizer, f"{where}.optimizer"),
                )
            )
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
    return tuple(made)


def _example(section: str) -> str:
    return "name=..." if section in PARTS else f"{fields(CONFIGS[section])[0].name}=..."


def bundled() -> list[str]:
    """The names of the recipes that ship with ebmctl and with plugins."""
    return sorted(registry.entries("recipe"))


def read(name: str) -> dict[str, Any]:
    """The plain values of a recipe: one that ships by its name, or a file by its path."""
    if name.endswith(".toml") or "/" in name or os.sep in name:
        return conversion.read_toml(user_path(name))
    package, _, inside = str(registry.find("recipe", name).factory).partition(":")
    with resources.as_file(resources.files(package) / inside) as path:
        return conversion.read_toml(path)


def resolve(
    dataset: str | DatasetName, recipe: str | None, assignments: Iterable[str], flags: Mapping[str, Any]
) -> Recipe:
    """The recipe of a run from all its sources.

    `recipe` is a name or a file; without one it is the dataset's own, or else "default". `EBMCTL_SET` holds key=value
    pairs like `assignments` (the --set options), which win over it; `flags` are dotted keys that win over all. Where an
    assignment names another network, objective, sampler or augmentation, the options of the previous one are dropped.
    """
    data = (DatasetName.parse(dataset) if isinstance(dataset, str) else dataset).checked()
    values = read(recipe or data.recipe)
    size, channels = data.native_shape or USUAL_SHAPE
    values["data"] = {"size": size, "channels": channels, **values.get("data", {}), "name": str(data)}
    for text in [*shlex.split(os.environ.get("EBMCTL_SET", "")), *assignments]:
        path, value = conversion.parse_assignment(text)
        _forget_another_part(values, path, value)
        merge(values, path, value)
    for key, value in flags.items():
        if value is not None:
            merge(values, key.split("."), value)
    return from_mapping(values)


def _forget_another_part(values: dict[str, Any], path: list[str], name: Any) -> None:
    """Where an assignment names another architecture, objective, ...: drop the recipe's options of the one before."""
    section, part = path[0], values.get(path[0], {})
    another = section in PARTS and path[1:] == ["name"] and isinstance(part, dict)
    if another and part.get("name", DEFAULTS[section]) != name:
        values[section] = {}


def with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with another number of training steps; the same one for None."""
    if steps is None:
        return recipe
    try:
        return replace(recipe, run=replace(recipe.run, steps=steps))
    except ValueError as error:
        raise UsageError(f"run: {error}") from error


def merge(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a dotted key in nested mappings; a number names an item of a list, such as phases.0.share."""
    node: Any = values
    for key in path[:-1]:
        node = node.setdefault(key, {}) if isinstance(node, dict) else _item(node, key, path)
        if not isinstance(node, (dict, list)):
            raise UsageError(f"{'.'.join(path)}: {key} is a value, not a section")
    if isinstance(node, dict):
        node[path[-1]] = value
    else:
        _item(node, path[-1], path)
        node[int(path[-1])] = value


def _item(items: list[Any], key: str, path: list[str]) -> Any:
    if not key.isdecimal() or int(key) >= len(items):
        raise UsageError(f"{'.'.join(path)}: the list has {len(items)} items, numbered from 0; there is no {key}")
    return items[int(key)]
