"""Datasets by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ebmctl.config import registry
from ebmctl.config.dataset import DatasetName
from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.errors import EbmctlError
from ebmctl.files import user_path


def default_root() -> Path:
    """Where datasets are kept: `EBMCTL_DATA`, or the user's cache folder."""
    if given := os.environ.get("EBMCTL_DATA"):
        return user_path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return user_path(cache) / "ebmctl" / "data"


class Flipped:
    """A dataset's images upside down: outliers with the same colours and edges."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset
        self.label_names, self.exclusive = dataset.label_names, dataset.exclusive

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        images, labels = self.dataset.__getitems__(indices)
        return ImageBatch(images.flip(2), labels)


def open_dataset(name: DatasetName, request: DataRequest) -> ImageDataset:
    """A dataset by its name; raises EbmctlError if it is not available or empty, UsageError for an unknown one."""
    dataset = _open(name, request)
    return Flipped(dataset) if name.flipped else dataset


def _open(name: DatasetName, request: DataRequest) -> ImageDataset:
    if name.kind == "folder":
        from ebmctl.data.folder import make_folder

        return make_folder(name.path, request)
    if name.kind == "shards":
        from ebmctl.data.shards import ShardImages

        return ShardImages(name.path, request)
    dataset: ImageDataset = registry.find("dataset", name.source).make(request)
    if not len(dataset):
        raise EbmctlError(f"the dataset '{name}' has no {request.split} images")
    return dataset


def missing(name: str, root: Path, how: str, cause: object = None) -> EbmctlError:
    """The error for a dataset that was not found: where it was searched for, and how to get it."""
    because = f" ({cause})" if cause else ""
    return EbmctlError(f"{name} was not found in {root}{because}; {how}")
