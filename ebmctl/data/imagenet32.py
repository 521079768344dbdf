"""ImageNet at 32x32, in the parquet files of the Hub's `benjamin-paine/imagenet-1k-32x32`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import UNREADABLE
from ebmctl.data.transform import fit_pixels, to_pixels
from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_file

CLASSES = 1000


def make(request: DataRequest) -> ImageDataset:
    """ImageNet with its 1,000 classes by number; the validation images are the test split.

    The PNGs are decoded once into `imagenet32/{split}.npy` (4 GB), which is then mapped, not loaded. The original
    batches are pickles, and are not read.
    """
    folder = request.root / "imagenet32"
    cache = folder / f"{request.split}.npy"
    if not cache.is_file():
        stem = "train" if request.split == "train" else "val"
        files = sorted(file for file in folder.rglob("*.parquet") if file.name.startswith(stem))
        if not files:
            how = "download the parquet files of the Hub's dataset benjamin-paine/imagenet-1k-32x32 into imagenet32/"
            raise missing("imagenet32", request.root, how)
        _convert(files, cache)
    return MappedImages(cache, request)


class MappedImages:
    """Rows of a label (2 bytes) and 3 x 32 x 32 bytes in a mapped file."""

    exclusive = True
    label_names = tuple(str(number) for number in range(CLASSES))

    def __init__(self, path: Path, request: DataRequest) -> None:
        self.rows, self.request = np.load(path, mmap_mode="r", allow_pickle=False), request

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Any) -> ImageBatch:
        rows = torch.from_numpy(np.ascontiguousarray(self.rows[np.asarray(indices)]))
        labels = rows[:, 0].long() * 256 + rows[:, 1]
        images = fit_pixels(rows[:, 2:].reshape(-1, 3, 32, 32), self.request.size, self.request.channels)
        return ImageBatch(images, one_hot(labels))


def one_hot(labels: Tensor) -> Tensor:
    """Classes (B,) as (B, 1000)."""
    return torch.zeros(len(labels), CLASSES).scatter_(1, labels[:, None], 1)


def _convert(files: list[Path], cache: Path) -> None:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise EbmctlError("imagenet32 is read from parquet: pip install 'ebmctl[parquet]'") from error
    try:
        sources = [parquet.ParquetFile(file) for file in files]
        count = sum(source.metadata.num_rows for source in sources)
        with atomic_file(cache) as temporary:
            open_memmap: Any = np.lib.format.open_memmap  # untyped in NumPy before 2.3
            rows = open_memmap(temporary, "w+", np.uint8, (count, 2 + 3072))
            position = 0
            for source in sources:
                for batch in source.iter_batches(1024, columns=["image", "label"]):
                    for item in batch.to_pylist():
                        pixels = to_pixels(Image.open(io.BytesIO(item["image"]["bytes"])), 32, 3)
                        rows[position, :2] = divmod(int(item["label"]), 256)
                        rows[position, 2:] = pixels.flatten().numpy()
                        position += 1
            rows.flush()
    except (ArrowException, KeyError, *UNREADABLE) as error:
        raise EbmctlError(f"{files[0].parent} holds no images in parquet files: {error}") from error
