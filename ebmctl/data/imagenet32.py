"""ImageNet at 32x32, in the parquet files of the Hub's `benjamin-paine/imagenet-1k-32x32`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import UNREADABLE
from ebmctl.data.shards import ArrayImages, complete, write_shards
from ebmctl.data.transform import to_pixels
from ebmctl.errors import EbmctlError

CLASSES = 1000


def make(request: DataRequest) -> ImageDataset:
    """ImageNet with its 1,000 classes by number; the validation images are the test split.

    The PNGs are decoded once into shards, `imagenet32/shards/{split}/` (4 GB). The original batches are pickles, and
    are not read.
    """
    folder = request.root / "imagenet32"
    cache = folder / "shards" / request.split
    if not complete(cache):
        stem = "train" if request.split == "train" else "val"
        files = sorted(file for file in folder.rglob("*.parquet") if file.name.startswith(stem))
        if not files:
            how = "download the parquet files of the Hub's dataset benjamin-paine/imagenet-1k-32x32 into imagenet32/"
            raise missing("imagenet32", request.root, how)
        _convert(files, cache)
    return ArrayImages(cache, request)


def _convert(files: list[Path], cache: Path) -> None:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise EbmctlError("imagenet32 is read from parquet: pip install 'ebmctl[parquet]'") from error
    try:
        rows = ParquetRows([parquet.ParquetFile(file) for file in files])
        for _ in write_shards(rows, f"imagenet32 ({cache.name})", cache, (3, 32, 32)):
            pass
    except (ArrowException, KeyError, *UNREADABLE) as error:
        raise EbmctlError(f"{files[0].parent} holds no images in parquet files: {error}") from error


class ParquetRows:
    """The images and classes in parquet files, for who asks for them in ascending order and once."""

    exclusive = True
    label_names = tuple(str(number) for number in range(CLASSES))

    def __init__(self, files: Sequence[Any]) -> None:
        self.count: int = sum(file.metadata.num_rows for file in files)
        self.position = 0
        self.rows: Iterator[Any] = (
            row
            for file in files
            for batch in file.iter_batches(1024, columns=["image", "label"])
            for row in batch.to_pylist()
        )

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        rows = list(islice(self.rows, indices[0] - self.position, indices[-1] + 1 - self.position))
        self.position = indices[-1] + 1
        images = [to_pixels(Image.open(io.BytesIO(row["image"]["bytes"])), 32, 3) for row in rows]
        labels = torch.tensor([int(row["label"]) for row in rows])
        return ImageBatch(torch.stack(images), torch.zeros(len(rows), CLASSES).scatter_(1, labels[:, None], 1))
