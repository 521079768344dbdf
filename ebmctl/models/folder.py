"""Model folders: the weights in safetensors, the rest in JSON and Markdown, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config import registry
from ebmctl.config.parts import Part
from ebmctl.config.recipe import from_mapping, migrated
from ebmctl.config.schema import Recipe
from ebmctl.core.energy import EnergyNetwork
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import atomic_folder, read_json
from ebmctl.models.tensors import opened, read_tensors, write_tensors

FORMAT = 1
MOST_LABELS = 100_000


@dataclass(frozen=True)
class ModelConfig:
    """What `config.json` of a model folder says. `labels` names the inputs of a conditional energy."""

    recipe: Recipe
    labels: tuple[str, ...]
    provenance: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return self.recipe.shape


def build_network(part: Part, channels: int, labels: int) -> EnergyNetwork:
    """The energy network that a recipe names, with random weights."""
    network = registry.find("architecture", part.name).make(part.options, channels, labels)
    if not isinstance(network, EnergyNetwork):
        raise EbmctlError(f"the architecture '{part.name}' did not return an EnergyNetwork")
    return network


def unconditional_names(part: Part, channels: int) -> set[str]:
    """The names of the parameters and buffers that the network has without labels, too."""
    return set(build_network(part, channels, 0).state_dict())


def save_model(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor], card: str) -> None:
    """Write a model folder, whole or not at all."""
    recipe = config.recipe.to_mapping()
    data = recipe["data"]
    document = {
        "format": FORMAT,
        "architecture": recipe["network"],
        "image": {"channels": data["channels"], "size": data["size"]},
        "labels": list(config.labels),
        "dataset": data["name"],
        "sampling": {key: recipe[key] for key in ("flow", "sampling", "sampler", "augment")},
        "recipe": recipe,
        "plugins": registry.needed(config.recipe.parts),
        "provenance": dict(config.provenance),
    }
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "model.safetensors", weights)
        (temporary / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")


def load_model(folder: Path) -> tuple[ModelConfig, EnergyNetwork]:
    """Read a model folder; raises EbmctlError with one line that names the file at fault."""
    path = folder / "config.json"
    document = read_json(path)
    if document.get("kind", "energy") != "energy":
        raise EbmctlError(f"{path} describes a {document['kind']}, not an energy-based model")
    if document.get("format") != FORMAT:
        raise EbmctlError(f"{path} has format {document.get('format')!r}; this version of ebmctl reads {FORMAT}")
    try:
        registry.check_needed(document.get("plugins", []))
        config = ModelConfig(
            recipe=from_mapping(
                migrated({**document["recipe"], "network": document["architecture"], **document["sampling"]})
            ),
            labels=_label_names(document["labels"]),
            provenance=dict(document["provenance"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EbmctlError(f"{path} is not a model's configuration: {error!r} is missing or wrong") from error
    except UsageError as error:
        raise EbmctlError(f"{path}: {error}") from error
    parts = (config.recipe.network, config.recipe.data.channels, len(config.labels))
    weights = folder / "model.safetensors"
    try:
        _check_shapes(weights, *parts)  # before there is any memory for them
        network = build_network(*parts)
    except (ValueError, UsageError) as error:
        raise EbmctlError(f"{path}: {error}") from error
    load_weights(network, read_tensors(weights), weights)
    return config, network.eval().requires_grad_(False)


def _label_names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) > MOST_LABELS:
        raise ValueError("labels")
    return tuple(names)


def _check_shapes(path: Path, part: Part, channels: int, labels: int) -> None:
    """Raise EbmctlError where the names or shapes in a file's header are not those of a network, which is not made."""
    try:
        with torch.device("meta"):
            wanted = {name: list(t.shape) for name, t in build_network(part, channels, labels).state_dict().items()}
    except (NotImplementedError, RuntimeError):
        return  # a plugin's that can't be made without its values
    with opened(path) as file:
        found = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # no mapping
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            is_there = f"is {found[name]}" if name in found else "is missing"
            should_be = f"not {wanted[name]}" if name in found and name in wanted else ""
            says = f"{name} {is_there} {should_be}" if name in wanted else f"{name} is unexpected"
            raise EbmctlError(f"{path}: the weights do not fit the network in config.json: {says.strip()[-200:]}")


def load_weights(network: EnergyNetwork, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Give a network its weights; raises EbmctlError where names, shapes or types differ, or a value is not finite."""
    for name, tensor in network.state_dict().items():
        if name in tensors and tensors[name].dtype != tensor.dtype:
            raise EbmctlError(f"{where}: {name} has dtype {tensors[name].dtype}, not {tensor.dtype}")
        if name in tensors and not tensors[name].isfinite().all():
            raise EbmctlError(f"{where}: {name} contains NaN or infinite values")
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise EbmctlError(f"{where}: the weights do not fit the network in config.json") from error
