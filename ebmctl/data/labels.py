"""What conditions an energy: the one-hot inputs that a recipe's label asks for."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmctl.config.schema import Recipe
from ebmctl.data.base import ImageDataset
from ebmctl.errors import UsageError, unknown


def condition_labels(recipe: Recipe, dataset: ImageDataset) -> tuple[str, ...]:
    """The names of the inputs that condition the energy: none, the classes, or the values of one attribute.

    Those of a binary attribute are `not NAME` and `NAME`; those of one with more values are `NAME=VALUE` each.
    """
    label = recipe.data.label
    if not label:
        return ()
    if label == "class" and dataset.exclusive and dataset.label_names:
        return tuple(dataset.label_names)
    if values := attribute_values(dataset).get(label):
        return values
    if label not in dataset.label_names:
        if not dataset.label_names:
            raise UsageError(f"{recipe.data.name} has no labels; omit --label")
        raise unknown("label", label, ["class", *dataset.label_names] if dataset.exclusive else attributes(dataset))
    return (f"not {label}", label)


def condition(label: str, dataset: ImageDataset, labels: Tensor) -> Tensor | None:
    """One-hot labels (B, L) for a batch whose dataset labels are (B, all)."""
    if not label:
        return None
    if label == "class":
        return labels
    if values := attribute_values(dataset).get(label):
        return labels[:, [dataset.label_names.index(value) for value in values]]
    value = labels[:, dataset.label_names.index(label)]
    return torch.stack([1 - value, value], dim=1)


def dropped(label: Tensor | None, share: float, generator: torch.Generator) -> Tensor | None:
    """Labels (B, L) with a share of them replaced by zeros, the label of the energy of all images."""
    if label is None or not share:
        return label
    kept = torch.rand(len(label), 1, generator=generator, device=label.device) >= share
    return label * kept


def attribute_values(dataset: ImageDataset) -> dict[str, tuple[str, ...]]:
    """The attributes with more than two values, and the names `NAME=VALUE` of their labels."""
    found: dict[str, tuple[str, ...]] = {}
    for name in () if dataset.exclusive else dataset.label_names:
        attribute, sign, _ = name.partition("=")
        if sign:
            found[attribute] = (*found.get(attribute, ()), name)
    return found


def attributes(dataset: ImageDataset) -> tuple[str, ...]:
    """What `--label` can name in a dataset with attributes, in the dataset's order."""
    return tuple(dict.fromkeys(name.partition("=")[0] for name in dataset.label_names))
