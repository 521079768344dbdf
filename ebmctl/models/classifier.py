"""Small classifiers of the datasets' labels, trained independently of all energies, to judge samples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from ebmctl.data.base import ImageDataset
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import atomic_folder, read_json, sha256
from ebmctl.models.device import device_of
from ebmctl.models.tensors import read_tensors, write_tensors
from ebmctl.models.zoo import entry_folder, find_model, zoo

FORMAT = 1
KIND = "classifier"
WIDEST, MOST_CLASSES = 256, 10_000
CLASS = "class"
PLAIN, RESNET18 = "plain", "resnet18"


@dataclass(frozen=True)
class Head:
    """Something that has one of several values: an attribute, or the "class" of a dataset.

    A binary attribute `smiling` has the values "not smiling" and "smiling", as the labels of its energy.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ClassifierConfig:
    """What `config.json` of a classifier's folder says: images (channels, size, size) and what is predicted.

    The architecture is "plain", of a width, for small images, or "resnet18" (He et al., 2015; torchvision's, from
    scratch; colour images).
    """

    dataset: str
    channels: int
    size: int
    width: int
    heads: tuple[Head, ...]
    provenance: Mapping[str, Any]
    architecture: str = PLAIN

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or not 8 <= self.size <= 1024 or not 1 <= self.width <= WIDEST:
            raise ValueError("channels must be 1 or 3, the size 8 to 1024, the width 1 to 256")
        if self.architecture not in (PLAIN, RESNET18) or (self.architecture == RESNET18 and self.channels != 3):
            raise ValueError("the architecture must be plain, or resnet18 with 3 channels")
        values = [len(head.values) for head in self.heads]
        if not values or min(values) < 2 or sum(values) > MOST_CLASSES:
            raise ValueError("every head needs two values or more")


class ClassifierNetwork(nn.Module):
    """A convolutional body, its mean over pixels, a hidden layer, and one linear map for all heads."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.body, channels = _resnet() if config.architecture == RESNET18 else _plain(config)
        self.hidden = nn.Linear(channels, 64)
        self.heads = nn.Linear(64, sum(len(head.values) for head in config.heads))

    def features(self, x: Tensor) -> Tensor:
        """The last layer before the heads, (B, 64), of images (B, C, H, W) in [0, 1]."""
        return torch.relu(self.hidden(self.body(2 * x - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, sum of the heads' values)."""
        logits: Tensor = self.heads(self.features(x))
        return logits


def _plain(config: ClassifierConfig) -> tuple[nn.Module, int]:
    """Convolutions at four sizes and their mean, with its channels."""
    width, layers = config.width, list[nn.Module]()
    channels = config.channels
    for stage, out in enumerate((width, 2 * width, 3 * width, 4 * width)):
        layers += [*_layer(channels, out), *(_layer(out, out) if stage else ())]
        layers += [nn.MaxPool2d(2)] if stage < 3 else []
        channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), channels


def _resnet() -> tuple[nn.Module, int]:
    network = resnet18(weights=None)
    channels = network.fc.in_features
    network.fc = nn.Identity()
    return network, channels


def _layer(channels: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()


@dataclass(frozen=True)
class Classifier:
    """A network with its configuration."""

    config: ClassifierConfig
    network: ClassifierNetwork
    source: Path | None = None

    @torch.no_grad()
    def probabilities(self, x: Tensor, batch: int = 256) -> list[Tensor]:
        """For each head (B, V) probabilities of its values, of images (B, C, H, W) in [0, 1]."""
        logits = torch.cat([self.network(part) for part in self._parts(x, batch)])
        sizes = [len(head.values) for head in self.config.heads]
        return [part.softmax(1) for part in torch.split(logits, sizes, 1)]

    @torch.no_grad()
    def features(self, x: Tensor, batch: int = 256) -> Tensor:
        """The features (B, 64) before the heads, from which quality metrics are computed."""
        return torch.cat([self.network.features(part) for part in self._parts(x, batch)])

    def decide(self, x: Tensor) -> dict[str, Tensor]:
        """The most probable value of each head, (B,) indices into its values."""
        found = zip(self.config.heads, self.probabilities(x), strict=True)
        return {head.name: probability.argmax(1) for head, probability in found}

    def sha256(self) -> str | None:
        """The checksum of the weights' file; None for one that was not loaded from a file."""
        return sha256(self.source / "model.safetensors") if self.source else None

    @property
    def device(self) -> torch.device:
        """Where its network is; one without parameters works anywhere."""
        return next((weights.device for weights in self.network.parameters()), torch.device("cpu"))

    def _parts(self, x: Tensor, batch: int) -> Iterator[Tensor]:
        """Images on any device, a few at a time on that of the network."""
        shape = (self.config.channels, self.config.size, self.config.size)
        if x.ndim != 4 or tuple(x.shape[1:]) != shape:
            raise UsageError(f"this classifier expects images of the shape (B, {', '.join(map(str, shape))})")
        return (part.to(self.device) for part in torch.split(x, batch))


def heads_of(dataset: ImageDataset) -> tuple[Head, ...]:
    """What can be predicted for a dataset: its class; or attributes, binary ones and those named name=value."""
    if dataset.exclusive:
        return (Head(CLASS, tuple(dataset.label_names)),)
    groups: dict[str, list[str]] = {}
    for label in dataset.label_names:
        name, equals, _ = label.partition("=")
        groups.setdefault(name, []).extend([label] if equals else [f"not {name}", name])
    return tuple(Head(name, tuple(values)) for name, values in groups.items())


def targets(heads: Sequence[Head], dataset: ImageDataset, labels: Tensor) -> dict[str, Tensor]:
    """The value of each head, (B,) indices, by a dataset's labels (B, L)."""
    found = {}
    for head in heads:
        if head.name in dataset.label_names and not dataset.exclusive:
            found[head.name] = labels[:, dataset.label_names.index(head.name)].round().long()
        else:
            columns = [dataset.label_names.index(value) for value in head.values]
            found[head.name] = labels[:, columns].argmax(1)
    return found


def save_classifier(folder: Path, classifier: Classifier, card: str) -> None:
    """Write a classifier's folder, whole or not at all."""
    document = {"format": FORMAT, "kind": KIND, **asdict(classifier.config)}
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "model.safetensors", classifier.network.state_dict())
        (temporary / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        (temporary / "README.md").write_text(card, encoding="utf-8")


def load_classifier(reference: str | Path, device: str | torch.device = "auto") -> Classifier:
    """Load a classifier from its folder or its name in the zoo; raises EbmctlError with one line."""
    where = device_of(device)
    folder = find_model(str(reference))
    path, weights = folder / "config.json", folder / "model.safetensors"
    document = read_json(path)
    if document.get("kind") != KIND or document.get("format") != FORMAT:
        raise EbmctlError(f"{path} is not the configuration of a classifier")
    try:
        values = {key: document[key] for key in ("dataset", "channels", "size", "width", "provenance")}
        heads = [Head(str(head["name"]), tuple(map(str, head["values"]))) for head in document["heads"]]
        config = ClassifierConfig(heads=tuple(heads), **values, architecture=document.get("architecture", PLAIN))
        with torch.device("meta"):
            network = ClassifierNetwork(config)
    except (KeyError, TypeError, ValueError) as error:
        raise EbmctlError(f"{path} is not a classifier's configuration: {error!r} is missing or wrong") from error
    tensors = read_tensors(weights)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise EbmctlError(f"{weights}: contains NaN or infinite values")
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise EbmctlError(f"{weights}: the weights do not fit the network in config.json") from error
    return Classifier(config, network.eval().requires_grad_(False).to(where), folder)


def default_classifier(dataset: str, device: str | torch.device = "auto") -> Classifier:
    """The zoo's classifier of a dataset; raises EbmctlError where it has none."""
    for entry in zoo().values():
        if entry.kind == KIND and entry.dataset == dataset:
            return load_classifier(entry_folder(entry), device)
    raise EbmctlError(f"the zoo has no classifier of {dataset}; give --classifier FOLDER")
