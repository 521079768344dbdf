"""Any folder of images."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.lazy import FileReader, LazyImages, in_memory
from ebmctl.errors import EbmctlError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def make_folder(path: Path, request: DataRequest) -> ImageDataset:
    """All images below a folder, sorted by path.

    Sub-folders are classes where every image is in one. The test split is the sub-folder `test/` (beside `train/`),
    or else a tenth of the images, chosen at random once and for all; under ten images, both splits are all of them.
    Raises EbmctlError for a folder that is missing, empty, or without images.
    """
    if not path.is_dir():
        raise EbmctlError(f"there is no folder {path}" if not path.exists() else f"{path} is not a folder")
    own_splits = (path / "train").is_dir() and (path / "test").is_dir()
    root = path / request.split if own_splits else path
    files = image_files(root)
    if not files:
        kinds = " ".join(sorted(SUFFIXES))
        empty = not any(root.iterdir())
        raise EbmctlError(f"{root} is empty" if empty else f"{root} contains no images; known formats: {kinds}")
    labels, names = class_labels(root, files)
    if not own_splits:
        rows = held_out(len(files), request.split)
        files, labels = [files[i] for i in rows.tolist()], labels[rows]
    shown = [printable(file.relative_to(root)) for file in files]
    images = LazyImages(shown, FileReader(files), labels, names, request)
    return in_memory(images)


def image_files(root: Path) -> list[Path]:
    """The image files below a folder by their suffix, sorted; links are followed, but no folder is entered twice."""
    found: list[Path] = []
    entered: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        entered.add(os.path.realpath(folder))
        below[:] = sorted(name for name in below if os.path.realpath(Path(folder, name)) not in entered)
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in SUFFIXES and file.is_file())


def held_out(count: int, split: str) -> Tensor:
    """The rows of a split: a random tenth is the test split, whatever order the names are in."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    cut = count // 10
    chosen = order if not cut else order[:cut] if split == "test" else order[cut:]
    return chosen.sort().values


def class_labels(root: Path, files: list[Path]) -> tuple[Tensor, list[str]]:
    """One-hot labels by the first sub-folder; none where an image lies directly in the folder."""
    parts = [file.relative_to(root).parts for file in files]
    names = sorted({p[0] for p in parts if len(p) > 1})
    if len(names) < 2 or any(len(p) == 1 for p in parts):
        return torch.zeros(len(files), 0), []
    number = {name: i for i, name in enumerate(names)}
    return torch.eye(len(names))[torch.tensor([number[p[0]] for p in parts])], names


def printable(path: Path) -> str:
    """A path that can be shown: control characters and broken encodings become question marks."""
    return "".join(c if c.isprintable() else "?" for c in str(path))
