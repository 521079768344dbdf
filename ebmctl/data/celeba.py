"""CelebA, and CelebA-HQ as the CelebAMask-HQ archive lays it out; both with 40 binary attributes."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import FileReader, LazyImages, PairReader, in_memory
from ebmctl.errors import EbmctlError

HQ_TEST = 3_000  # the last images by number; the archive names no split


def make_celeba(request: DataRequest) -> ImageDataset:
    """CelebA (aligned), by torchvision, which needs gdown to download it."""
    from torchvision.datasets import CelebA

    try:
        found = CelebA(str(request.root), split=request.split, download=request.download)
    except (OSError, RuntimeError, ImportError) as error:
        how = "download img_align_celeba.zip and the list files from the dataset's page into celeba/"
        raise missing("celeba", request.root, how, error) from error
    names = [name for name in found.attr_names if name]
    labels = found.attr.float()
    return in_memory(LazyImages(found.filename, PairReader(found), labels, names, request, False))


def make_celebahq(request: DataRequest) -> ImageDataset:
    """CelebA-HQ with the attributes of `CelebAMask-HQ-attribute-anno.txt`; the last tenth is the test split."""
    folder = request.root / "CelebAMask-HQ"
    table = folder / "CelebAMask-HQ-attribute-anno.txt"
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        how = "unpack the archive CelebAMask-HQ.zip there; its licence requires you to download it yourself"
        raise missing("celebahq", request.root, how) from error
    names = lines[1].split() if len(lines) > 2 else []
    rows = [line.split() for line in lines[2:] if line.strip()]
    if not rows or any(len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"} for row in rows):
        raise EbmctlError(f"{table} is not a complete table of attributes (1 or -1 for each image)")
    held_out = min(HQ_TEST, len(rows) // 10)
    chosen = rows[len(rows) - held_out :] if request.split == "test" else rows[: len(rows) - held_out]
    labels = torch.tensor([[value == "1" for value in row[1:]] for row in chosen]).float()
    files = [row[0] for row in chosen]
    if any("/" in file or "\\" in file or file.startswith(".") for file in files):
        raise EbmctlError(f"{table} names a file outside of its folder")
    pictures = folder / "CelebA-HQ-img"
    reader = FileReader([pictures / file for file in files])
    return in_memory(LazyImages(files, reader, labels, names, request, False))
