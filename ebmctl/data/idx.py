"""MNIST and Fashion-MNIST, in their idx files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageDataset, TensorImages
from ebmctl.data.datasets import missing
from ebmctl.data.transform import fit_pixels
from ebmctl.errors import EbmctlError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLOTHES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"]


def make_mnist(request: DataRequest) -> ImageDataset:
    """MNIST with the digit as class."""
    return _make("mnist", "MNIST", [], [str(digit) for digit in range(10)], request)


def make_fashion_mnist(request: DataRequest) -> ImageDataset:
    """Fashion-MNIST with the garment as class; also found where Debian's package puts it."""
    return _make("fashion-mnist", "FashionMNIST", [DEBIAN], CLOTHES, request)


def _make(name: str, cls: str, more: list[Path], classes: list[str], request: DataRequest) -> ImageDataset:
    folders = [request.root / cls / "raw", request.root / name, *more]
    found = _find(folders, request.split)
    if found is None and request.download:
        _download(name, cls, request.root)
        found = _find(folders, request.split)
    if found is None:
        raise missing(name, request.root, f"put its idx files into {request.root / cls / 'raw'}")
    images, labels = read_idx(found[0]), read_idx(found[1])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise EbmctlError(f"{found[0]} and {found[1].name} do not contain as many labels as images")
    one_hot = torch.eye(len(classes))[labels.long()]
    return TensorImages(fit_pixels(images[:, None], request.size, request.channels), one_hot, classes)


def _find(folders: list[Path], split: str) -> tuple[Path, Path] | None:
    stem = "train" if split == "train" else "t10k"
    for folder in folders:
        for suffix in ("", ".gz"):
            pair = (folder / f"{stem}-images-idx3-ubyte{suffix}", folder / f"{stem}-labels-idx1-ubyte{suffix}")
            if all(path.is_file() for path in pair):
                return pair
    return None


def _download(name: str, cls: str, root: Path) -> None:
    from torchvision import datasets

    try:
        getattr(datasets, cls)(str(root), download=True)
    except (OSError, RuntimeError) as error:
        raise missing(
            name, root, "it could not be downloaded; put it there by hand, or use --data-dir", error
        ) from error


def read_idx(path: Path) -> Tensor:
    """The uint8 array of an idx file, gzipped or not; raises EbmctlError where it is damaged."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise EbmctlError(f"can't read {path}: {error}") from error
    dimensions = data[3] if len(data) > 3 else 0
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    start = 4 + 4 * dimensions
    if data[:3] != b"\0\0\x08" or len(data) - start != math.prod(shape):
        raise EbmctlError(f"{path} is not a complete idx file of bytes")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=start).view(shape)
