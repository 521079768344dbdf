"""Images of one size in tar files that WebDataset reads too: written once, then read without decoding.

Every image is a member `NUMBER.npy` (uint8, (C, H, W)), and its labels `NUMBER.label.npy` where there are any.
`index.json` has the shards with their counts and checksums.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.data.transform import fit_pixels
from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_file, sha256

FORMAT = 1
BLOCK = 512  # of a tar file
SHARD_BYTES = 64 << 20


def write_shards(dataset: ImageDataset, source: str, out: Path, shape: tuple[int, int, int]) -> Iterator[int]:
    """Write all images (N, *shape) of a dataset; yields how many are written. What is there already is gone on with.

    Raises EbmctlError where `out` holds other shards.
    """
    per_shard = max(1, SHARD_BYTES // _stride(shape, len(dataset.label_names)))
    index: dict[str, Any] = {
        "format": FORMAT,
        "source": source,
        "shape": list(shape),
        "label_names": list(dataset.label_names),
        "exclusive": dataset.exclusive,
        "images": len(dataset),
        "shards": [],
    }
    if (out / "index.json").exists():
        old = _read_index(out)
        if any(old[key] != index[key] for key in index if key != "shards"):
            raise EbmctlError(f"{out} has shards of {old['source']} with other settings; choose another folder")
        index["shards"] = old["shards"]
    for start in range(len(index["shards"]) * per_shard, len(dataset), per_shard):
        rows = range(start, min(start + per_shard, len(dataset)))
        path = out / f"{start // per_shard:05d}.tar"
        with atomic_file(path) as temporary:
            _write_tar(temporary, dataset, rows)
            digest = sha256(temporary)
        index["shards"].append({"name": path.name, "images": len(rows), "sha256": digest})
        with atomic_file(out / "index.json") as temporary:
            temporary.write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        yield rows.stop


def _write_tar(path: Path, dataset: ImageDataset, rows: range, chunk: int = 256) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for low in range(rows.start, rows.stop, chunk):
            numbers = range(low, min(low + chunk, rows.stop))
            images, labels = dataset.__getitems__(numbers)
            for number, image, label in zip(numbers, images, labels, strict=True):
                _add(archive, f"{number:09d}.npy", image)
                if len(label):
                    _add(archive, f"{number:09d}.label.npy", label.float())


def _add(archive: tarfile.TarFile, name: str, values: Tensor) -> None:
    file = io.BytesIO()
    np.save(file, values.numpy())
    member = tarfile.TarInfo(name)
    member.size = file.tell()
    file.seek(0)
    archive.addfile(member, file)


def _member_bytes(array: np.ndarray[Any, Any]) -> int:
    """The bytes that an array takes in a tar file."""
    file = io.BytesIO()
    np.save(file, array)
    return BLOCK + -(-file.tell() // BLOCK) * BLOCK


def _stride(shape: Sequence[int], labels: int) -> int:
    """The bytes from one image to the next: all are of one size."""
    stride = _member_bytes(np.zeros(shape, np.uint8))
    return stride + (_member_bytes(np.zeros(labels, np.float32)) if labels else 0)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "index.json"
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = index["format"] == FORMAT
        names = [shard["name"] for shard in index["shards"]]
    except OSError as error:
        raise EbmctlError(f"{folder} holds no shards: can't read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EbmctlError(f"{path} is not an index of shards") from error
    if not known or any(Path(name).name != name for name in names):
        raise EbmctlError(f"{path} is not an index of shards that this version reads")
    return index


class ShardImages:
    """The images of a folder of shards: where each lies is computed, so that no list of them is kept."""

    def __init__(self, folder: Path, request: DataRequest) -> None:
        index = _read_index(folder)
        self.folder, self.request = folder, request
        self.shape: tuple[int, int, int] = tuple(index["shape"])
        self.label_names, self.exclusive = tuple(index["label_names"]), bool(index["exclusive"])
        self.names = [str(shard["name"]) for shard in index["shards"]]
        self.lengths = [int(shard["images"]) for shard in index["shards"]]
        if sum(self.lengths) != index["images"]:
            raise EbmctlError(f"{folder} is not complete: {sum(self.lengths):,} of {index['images']:,} images")
        self.ends = np.cumsum(self.lengths)
        self.stride = _stride(self.shape, len(self.label_names))
        self.label_offset = _member_bytes(np.zeros(self.shape, np.uint8))
        for name, length in zip(self.names, self.lengths, strict=True):
            self._check(folder / name, length)

    def _check(self, path: Path, length: int) -> None:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise EbmctlError(f"can't read the shard {path}: {error.strerror}") from error
        if size < length * self.stride:
            raise EbmctlError(f"the shard {path} was cut short")

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        images = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        labels = torch.zeros(len(indices), len(self.label_names))
        shards = np.searchsorted(self.ends, indices, side="right")
        order = np.argsort(shards, kind="stable")
        for shard in np.unique(shards):
            rows = order[np.searchsorted(shards[order], shard) : np.searchsorted(shards[order], shard, side="right")]
            first = int(self.ends[shard]) - self.lengths[shard]
            self._read(self.folder / self.names[shard], [(int(r), indices[r] - first) for r in rows], images, labels)
        size, channels = self.request.size, self.request.channels
        return ImageBatch(fit_pixels(images, size, channels), labels)

    def _read(self, path: Path, places: list[tuple[int, int]], images: Tensor, labels: Tensor) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for row, number in places:
                content = os.pread(descriptor, self.stride, number * self.stride)
                pixels = _payload(content, BLOCK, images[row].numel(), path)
                images[row] = torch.frombuffer(pixels, dtype=torch.uint8).view(self.shape)
                if self.label_names:
                    values = _payload(content, self.label_offset + BLOCK, 4 * len(self.label_names), path)
                    labels[row] = torch.frombuffer(values, dtype=torch.float32)
        finally:
            os.close(descriptor)


def _payload(content: bytes, offset: int, length: int, path: Path) -> bytearray:
    """The values of an array in .npy format that starts at an offset."""
    magic, header = content[offset : offset + 6], content[offset + 8 : offset + 10]
    if magic != b"\x93NUMPY":
        raise EbmctlError(f"the shard {path} is damaged")
    begin = offset + 10 + int.from_bytes(header, "little")
    return bytearray(content[begin : begin + length])


def verify(folder: Path) -> Iterator[str]:
    """The names of the shards whose checksum is right; raises EbmctlError at the first that is not."""
    for shard in _read_index(folder)["shards"]:
        path = folder / shard["name"]
        if not path.is_file() or sha256(path) != shard["sha256"]:
            raise EbmctlError(f"the shard {path} is missing or was altered: its checksum is wrong")
        yield shard["name"]
