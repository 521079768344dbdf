"""The images that are scored: always the same ones, with a fingerprint that says which."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ebmctl.data.base import ImageDataset, Split
from ebmctl.data.transform import to_float


class EvaluationImages:
    """All images of a split, or n of them chosen by a seed, in batches (B, C, H, W) in [0, 1].

    Their fingerprint is complete once they were read to the end.
    """

    def __init__(
        self, dataset: ImageDataset, name: str, n: int | None, seed: int, batch: int = 256, split: Split = "test"
    ) -> None:
        self.dataset, self.name, self.batch, self.split = dataset, name, batch, split
        self.rows = list(range(len(dataset)))
        if n is not None and n < len(dataset):
            draw = torch.Generator().manual_seed(seed)
            self.rows = torch.randperm(len(dataset), generator=draw)[:n].sort().values.tolist()
        self.fingerprint: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Tensor]:
        return map(to_float, self.pixels())

    def pixels(self) -> Iterator[Tensor]:
        """The same images as uint8."""
        whole, first, last = hashlib.sha256(), "", ""
        for low in range(0, len(self.rows), self.batch):
            images, _ = self.dataset.__getitems__(self.rows[low : low + self.batch])
            content = images.numpy().tobytes()
            whole.update(content)
            first = first or _sha256(images[0])
            last = _sha256(images[-1])
            yield images
        self.fingerprint = {
            "dataset": self.name,
            "split": self.split,
            "count": len(self.rows),
            "of": len(self.dataset),
            "sha256_first": first,
            "sha256_last": last,
            "sha256_all": whole.hexdigest(),
        }


def _sha256(image: Tensor) -> str:
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()
