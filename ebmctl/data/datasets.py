"""Datasets by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

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


def open_dataset(
    name: str, request: DataRequest, find: Callable[[str], Callable[[DataRequest], ImageDataset]]
) -> ImageDataset:
    """The dataset `folder:PATH` or `shards:PATH`, or what `find(name)` makes; after `flipped:` upside down.

    Raises EbmctlError where it can't be had or is empty.
    """
    if name.startswith("flipped:"):
        return Flipped(open_dataset(name.removeprefix("flipped:"), request, find))
    if name.startswith("folder:"):
        from ebmctl.data.folder import make_folder

        return make_folder(user_path(name.removeprefix("folder:")), request)
    if name.startswith("shards:"):
        from ebmctl.data.shards import ShardImages

        return ShardImages(user_path(name.removeprefix("shards:")), request)
    dataset = find(name)(request)
    if not len(dataset):
        raise EbmctlError(f"the dataset '{name}' has no {request.split} images")
    return dataset


def missing(name: str, root: Path, how: str, cause: object = None) -> EbmctlError:
    """The error for a dataset that is not there: where it was looked for, and how to get it."""
    because = f" ({cause})" if cause else ""
    return EbmctlError(f"{name} is not in {root}{because}; {how}")
