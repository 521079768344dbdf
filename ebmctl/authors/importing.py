"""A checkpoint of the paper's authors as a model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ebmctl import __version__
from ebmctl.authors.networks import Recognised, recognise
from ebmctl.authors.torch_file import read_checkpoint
from ebmctl.config import recipe
from ebmctl.config.parts import Part
from ebmctl.config.schema import Recipe
from ebmctl.core.config import LangevinConfig
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import sha256
from ebmctl.models.folder import ModelConfig, build_network

Weights = Literal["ema", "model"]
_OBJECT_LABELS = {1: ("x", "y"), 2: ("size", "size again"), 3: ("sine", "cosine"), 4: ("not type", "type")}
"""What the authors condition their objects on, by their `cond_idx`: two numbers each."""


@dataclass(frozen=True)
class Imported:
    """A model folder's contents, and what was recognised."""

    config: ModelConfig
    weights: Mapping[str, Tensor]
    found: Recognised


def import_checkpoint(path: Path, recipe_name: str, weights: Weights, label: str | None) -> Imported:
    """Read the authors' checkpoint as a model of a recipe, whose network is replaced by the one that is found.

    The Langevin step is that of the checkpoint, which it was trained with. Missing tensors get the seeded initial
    values of a new network: see `Imported.found`. Raises EbmctlError with one line.
    """
    values = recipe.read(recipe_name)
    if not values.get("data", {}).get("name"):
        raise UsageError(f"the recipe {recipe_name} has no dataset (data.name)")
    base = recipe.from_mapping(values)
    if not path.is_file():
        raise EbmctlError(f"there is no file {path}")
    try:
        content = read_checkpoint(path, skip=("optimizer_state_dict",))
        flags = content.get("FLAGS")
        flags = flags if isinstance(flags, dict) else {}
        key = {"ema": "ema_model_state_dict_0", "model": "model_state_dict_0"}[weights]
        if not isinstance(content.get(key), dict):
            raise ValueError(f"it has no {key}")
        found = recognise(content[key], flags)
    except ValueError as error:
        text = str(error)
        raise EbmctlError(text if str(path) in text else f"{path}: {text}") from error
    if found.channels != base.data.channels:
        raise UsageError(
            f"{path} is for images of {found.channels} channels, the recipe {recipe_name} for {base.data.channels}"
        )
    found.unexpected.extend(
        name
        for name in content
        if name.startswith(("model_state_dict_", "ema_model_state_dict_")) and not name.endswith("_dict_0")
    )
    labels = _labels(found, flags, label)
    made = _recipe(base, found, flags, label)
    provenance = {
        "ebmctl": __version__,
        "imported": path.name,
        "imported_sha256": sha256(path),
        "weights": key,
        "kind": found.kind,
    }
    return Imported(ModelConfig(made, labels, provenance), _whole(made.network, found), found)


def _labels(found: Recognised, flags: Mapping[str, Any], label: str | None) -> tuple[str, ...]:
    if not found.labels:
        if label:
            raise UsageError("the checkpoint is unconditional; omit --label")
        return ()
    if found.labels != 2:
        if label:
            raise UsageError(f"the checkpoint has {found.labels} classes; omit --label")
        return tuple(map(str, range(found.labels)))
    if flags.get("dataset") == "object" and flags.get("cond_idx") in _OBJECT_LABELS:
        return _OBJECT_LABELS[flags["cond_idx"]]
    if not label:
        raise UsageError("the checkpoint is conditional on an attribute that it does not name: give --label ATTRIBUTE")
    return (f"not {label}", label)


def _recipe(base: Recipe, found: Recognised, flags: Mapping[str, Any], label: str | None) -> Recipe:
    step, sampler = flags.get("step_lr"), base.sampler
    if isinstance(step, float) and step > 0 and isinstance(sampler.options, LangevinConfig):
        sampler = Part(sampler.name, replace(sampler.options, step_size=step))
    condition = (label or "class") if found.labels else ""
    data = replace(base.data, label=condition)
    return replace(base, network=Part("residual", found.config), sampler=sampler, data=data)


def _whole(network: Part, found: Recognised) -> dict[str, Tensor]:
    """The weights, with the initial values of a new network for missing tensors."""
    if not found.missing:
        return found.state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        new: dict[str, Tensor] = build_network(network, found.channels, found.labels).state_dict()
    return {**new, **found.state}
