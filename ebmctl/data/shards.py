"""Images of one size in plain NumPy arrays: written once, then read without decoding.

A shard is `NUMBER.npy`, uint8 (N, C, H, W), and where there are labels `NUMBER.labels.npy`, uint8 (N, ceil(L / 8)),
eight to a byte as np.packbits has them. `index.json` has the counts and checksums. The files are read, not mapped: all
that was ever touched of a map counts as the process's memory, and where a disk fails a map ends the process wordlessly.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ebmctl.config.conversion import build
from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.data.transform import fit_pixels
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import atomic_file, locked, read_json, sha256

SHARD_BYTES = 64 << 20
CHUNK = 256  # images that are decoded at once
HEADER = 128  # bytes of a .npy file before its values


@dataclass(frozen=True)
class Shard:
    """How many images it has, and the checksums of its files."""

    images: int
    sha256: str
    labels_sha256: str = ""


@dataclass(frozen=True)
class Index:
    """What is in `index.json`: shape is (C, H, W), `images` counts those of the whole set, written or not."""

    format: Literal[2]
    source: str
    shape: tuple[int, int, int]
    label_names: tuple[str, ...]
    exclusive: bool
    images: int
    shards: tuple[Shard, ...] = ()

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        if channels not in (1, 3) or height != width or min(height, self.images, *(s.images for s in self.shards)) < 1:
            raise ValueError("takes square images with 1 or 3 channels, and counts of at least 1")

    @property
    def written(self) -> int:
        """The images of the shards that are there."""
        return sum(shard.images for shard in self.shards)

    def files(self, folder: Path, number: int) -> list[tuple[Path, tuple[int, ...]]]:
        """The paths of a shard's files, the labels' only where there are any, and the shapes of one row of each."""
        found: list[tuple[Path, tuple[int, ...]]] = [(folder / f"{number:05d}.npy", self.shape)]
        if self.label_names:
            found.append((folder / f"{number:05d}.labels.npy", (-(-len(self.label_names) // 8),)))
        return found


def write_shards(dataset: ImageDataset, source: str, out: Path, shape: tuple[int, int, int]) -> Iterator[int]:
    """Write all images (N, *shape) of a dataset; yields how many are written. What is there already is gone on with.

    They are asked for in ascending order. Another process that writes to `out` is waited for. Raises EbmctlError where
    `out` holds other shards, and for labels other than 0 and 1.
    """
    per_shard = max(1, SHARD_BYTES // math.prod(shape))
    with locked(out):
        index = _begun(out, Index(2, source, shape, tuple(dataset.label_names), dataset.exclusive, len(dataset)))
        for start in range(index.written, len(dataset), per_shard):
            rows = range(start, min(start + per_shard, len(dataset)))
            digests = _write_shard(index.files(out, len(index.shards)), dataset, rows)
            index = replace(index, shards=(*index.shards, Shard(len(rows), *digests)))
            with atomic_file(out / "index.json") as temporary:
                temporary.write_text(json.dumps(asdict(index), indent=1) + "\n", encoding="utf-8")
            yield rows.stop


def _begun(out: Path, index: Index) -> Index:
    """The index with the shards that are there already."""
    if not (out / "index.json").exists():
        return index
    old = _read_index(out)
    if replace(old, shards=()) != index:
        raise EbmctlError(f"{out} has shards of {old.source} with other settings; choose another folder")
    return old


def _write_shard(files: list[tuple[Path, tuple[int, ...]]], dataset: ImageDataset, rows: range) -> list[str]:
    arrays = [np.empty((len(rows), *shape), np.uint8) for _, shape in files]
    for low in range(0, len(rows), CHUNK):
        images, labels = dataset.__getitems__(rows[low : low + CHUNK])
        if not torch.equal(labels, labels.bool().to(labels.dtype)):
            raise EbmctlError("shards hold labels of 0 and 1 only, and this dataset has others")
        packed = np.packbits(labels.bool().numpy(), axis=1)
        for array, values in zip(arrays, (images.numpy(), packed), strict=False):
            array[low : low + CHUNK] = values
    return [_save(path, array) for (path, _), array in zip(files, arrays, strict=True)]


def _save(path: Path, array: np.ndarray[Any, Any]) -> str:
    """Write a .npy file; gives its checksum."""
    with atomic_file(path) as temporary:
        with temporary.open("wb") as file:
            file.write(_header(array.shape))
            file.write(array.data)
        return sha256(temporary)


def _header(shape: tuple[int, ...]) -> bytes:
    """What np.save writes before the values of a uint8 array: all of version 1.0 of the format that is read here."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def complete(folder: Path) -> bool:
    """Whether a folder has all its shards; raises EbmctlError for one whose index is damaged."""
    return (folder / "index.json").exists() and (index := _read_index(folder)).written == index.images


def _read_index(folder: Path) -> Index:
    path = folder / "index.json"
    if not path.exists():
        raise EbmctlError(f"{folder} holds no shards: there is no index.json in it")
    document = read_json(path)
    if document.get("format") == 1:
        raise EbmctlError(f"{folder} has tar files of an earlier version; prepare its images anew, in another folder")
    try:
        return build(Index, document, "")
    except UsageError as error:
        raise EbmctlError(f"{path} is not an index of shards: {' '.join(str(error)[:200].split())}") from error


class ArrayImages:
    """The images in a folder of shards, of the size and channels that are asked for.

    Each is read where it lies, so that nothing grows with their number. Raises EbmctlError for a file that is missing,
    cut short or no such array, and for a folder that is not complete.
    """

    def __init__(self, folder: Path, request: DataRequest) -> None:
        self.folder, self.request, self.index = folder, request, _read_index(folder)
        self.label_names, self.exclusive = self.index.label_names, self.index.exclusive
        self.lengths = [shard.images for shard in self.index.shards]
        if self.index.written != self.index.images:
            raise EbmctlError(f"{folder} is not complete: {self.index.written:,} of {self.index.images:,} images")
        for number, length in enumerate(self.lengths):
            for path, shape in self.index.files(folder, number):
                _check(path, (length, *shape))
        self.ends = np.cumsum(self.lengths)

    def __len__(self) -> int:
        return self.index.images

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        wanted = np.asarray(indices, dtype=np.int64)
        images = np.empty((len(wanted), math.prod(self.index.shape)), np.uint8)
        packed = np.empty((len(wanted), -(-len(self.label_names) // 8)), np.uint8)
        shards = np.searchsorted(self.ends, wanted, side="right")
        for shard in np.unique(shards).tolist():
            rows = np.flatnonzero(shards == shard)
            places = wanted[rows] - (self.ends[shard] - self.lengths[shard])
            for (path, _), out in zip(self.index.files(self.folder, shard), (images, packed), strict=False):
                _read(path, places.tolist(), rows.tolist(), out)
        labels = torch.from_numpy(np.unpackbits(packed, axis=1, count=len(self.label_names))).float()
        pixels = torch.from_numpy(images).view(-1, *self.index.shape)
        return ImageBatch(fit_pixels(pixels, self.request.size, self.request.channels), labels)


class ShardImages(ArrayImages):
    """Those of `shards:DIR`, which training reads in a ShardOrder: they may be far more than the disk cache holds."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[FileIO]:
    try:
        with path.open("rb", buffering=0) as file:
            yield file
    except OSError as error:
        raise EbmctlError(f"can't read the shard {path}: {error.strerror}") from error


def _check(path: Path, shape: tuple[int, ...]) -> None:
    with _opened(path) as file:
        if file.read(HEADER) != _header(shape):
            raise EbmctlError(f"the shard {path} is damaged: it is no .npy file of {shape} bytes")
        if (more := file.seek(0, os.SEEK_END) - HEADER - math.prod(shape)) != 0:
            raise EbmctlError(f"the shard {path} {'was cut short' if more < 0 else 'has more than its images'}")


def _read(path: Path, places: list[int], rows: list[int], out: np.ndarray[Any, Any]) -> None:
    """Read the rows of a file at some places into rows of `out`, (B, bytes of a row)."""
    with _opened(path) as file:
        for place, row in zip(places, rows, strict=True):
            file.seek(HEADER + place * out.shape[1])
            if file.readinto(out[row]) != out.shape[1]:
                raise EbmctlError(f"the shard {path} was cut short")


def verify(folder: Path) -> Iterator[str]:
    """The names of the files whose checksum is right; raises EbmctlError at the first that is not."""
    index = _read_index(folder)
    for number, shard in enumerate(index.shards):
        digests = (shard.sha256, shard.labels_sha256)
        for (path, _), digest in zip(index.files(folder, number), digests, strict=False):
            if not path.is_file() or sha256(path) != digest:
                raise EbmctlError(f"the shard {path} is missing or was altered: its checksum is wrong")
            yield path.name
