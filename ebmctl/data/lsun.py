"""LSUN bedrooms, in the lmdb that its authors distribute."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import LazyImages
from ebmctl.errors import EbmctlError


def make(request: DataRequest) -> ImageDataset:
    """LSUN bedrooms (3 million to train; the 300 validation images are the test split), decoded on demand.

    Not by torchvision, which keeps the list of keys in a pickle.
    """
    folder = request.root / f"bedroom_{'train' if request.split == 'train' else 'val'}_lmdb"
    if not folder.is_dir():
        how = "unpack bedroom_train_lmdb.zip and bedroom_val_lmdb.zip from http://dl.yf.io/lsun/scenes there"
        raise missing("lsun-bedroom", request.root, how)
    reader = _Reader(folder)
    labels = torch.zeros(len(reader.keys), 0)
    return LazyImages(reader, reader, labels, [], request)


class _Reader(Sequence[str]):
    def __init__(self, folder: Path) -> None:
        self.folder, self.owner = folder, -1
        with self._transaction() as transaction:
            # a fixed-width array: 3 million Python objects would take half a gigabyte
            self.keys = np.fromiter(transaction.cursor().iternext(values=False), dtype="S64")

    def _transaction(self) -> Any:
        try:
            import lmdb
        except ImportError as error:
            raise EbmctlError("LSUN needs lmdb: pip install 'ebmctl[lmdb]'") from error
        if self.owner != os.getpid():  # an lmdb handle does not survive a fork
            try:
                self.environment = lmdb.open(
                    str(self.folder), readonly=True, lock=False, readahead=False, max_readers=64
                )
            except lmdb.Error as error:
                raise EbmctlError(f"can't read {self.folder}: {error}") from error
            self.owner = os.getpid()
        return self.environment.begin(buffers=False)

    def __call__(self, index: int) -> Image.Image:
        with self._transaction() as transaction:
            return Image.open(io.BytesIO(transaction.get(bytes(self.keys[index]))))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]  # no slices
        return bytes(self.keys[index]).decode("ascii", "replace")

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "keys": self.keys, "owner": -1}
