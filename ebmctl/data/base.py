"""What a dataset is: a map from indices to batches of uint8 images, with labels where it has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

Split = Literal["train", "test"]


@dataclass(frozen=True)
class DataRequest:
    """A request to a dataset factory. Images are square, `size` pixels wide, with 1 or 3 channels."""

    split: Split
    root: Path
    size: int
    channels: int
    download: bool = True


class ImageBatch(NamedTuple):
    """Images (B, C, H, W), uint8, and labels (B, L), float in [0, 1] (one-hot classes or attributes)."""

    images: Tensor
    labels: Tensor


@runtime_checkable
class ImageDataset(Protocol):
    """Images of one shape. `label_names` has L names; L = 0 for sets without labels.

    `exclusive` says that each image has exactly one of the labels (classes), not any number of them (attributes).
    An attribute is binary, or has several values: labels `NAME=VALUE`, of which an image has exactly one for each NAME.
    """

    label_names: tuple[str, ...]
    exclusive: bool

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch: ...


class TensorImages:
    """A dataset in memory: images (N, C, H, W), uint8."""

    def __init__(
        self, images: Tensor, labels: Tensor | None = None, names: Sequence[str] = (), exclusive: bool = True
    ) -> None:
        self.images = images
        self.labels = torch.zeros(len(images), 0) if labels is None else labels.float()
        self.label_names = tuple(names)
        self.exclusive = exclusive

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        index = torch.as_tensor(indices)
        return ImageBatch(self.images[index], self.labels[index])
