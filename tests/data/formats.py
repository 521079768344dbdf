"""What the tests of the data's formats share."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from ebmctl.config.dataset import USUAL_SHAPE, DatasetName
from ebmctl.data.base import DataRequest
from ebmctl.data.datasets import open_dataset


def load(name: str, root: Path, split: str = "train", size: int | None = None, channels: int | None = None):
    dataset = DatasetName.parse(name)
    own = dataset.native_shape or USUAL_SHAPE
    request = DataRequest(split, root, size or own[0], channels or own[1], download=False)
    return open_dataset(dataset, request)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()
