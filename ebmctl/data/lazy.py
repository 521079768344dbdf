"""Images that are decoded one by one: kept in memory where they fit, read again and again where they do not."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset, TensorImages
from ebmctl.data.transform import to_pixels
from ebmctl.errors import EbmctlError

MEMORY_LIMIT = 1 << 30  # bytes
MOST_AT_ONCE = 20_000  # images; decoding more would keep the user waiting
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""What is decoded, whatever a file's name says: not EPS, for which Pillow would start another program."""
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises, by format and kind of damage, for a file that it can't decode."""

logger = logging.getLogger("ebmctl")


@dataclass(frozen=True)
class FileReader:
    """Opens image files by their number."""

    files: Sequence[Path]

    def __call__(self, index: int) -> Image.Image:
        """The picture in a file."""
        return Image.open(self.files[index], formats=FORMATS)


@dataclass(frozen=True)
class PairReader:
    """Takes the pictures out of a torchvision dataset of (picture, target) pairs."""

    pairs: Any

    def __call__(self, index: int) -> Image.Image:
        """The picture of a pair."""
        return self.pairs[index][0]  # type: ignore[no-any-return]  # torchvision's datasets are untyped


class LazyImages:
    """Images that `read(index)` opens as PIL pictures on demand.

    One that can't be read is named once in the log and replaced by the next that can; more than 1 % of them (once 100
    were read) is an EbmctlError.
    """

    def __init__(
        self,
        names: Sequence[Any],
        read: Callable[[int], Image.Image],
        labels: Tensor,
        label_names: Sequence[str],
        request: DataRequest,
        exclusive: bool = True,
    ) -> None:
        self.names, self.read, self.labels, self.request = names, read, labels, request
        self.label_names, self.exclusive = tuple(label_names), exclusive
        self.skipped: set[int] = set()
        self.seen = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        found = [self._readable(index) for index in indices]
        if self.seen >= 100:
            bad = [str(self.names[i]) for i in sorted(self.skipped)]
            check_share(len(bad), min(self.seen, len(self)), bad[:3])
        rows = torch.tensor([index for index, _ in found])
        return ImageBatch(torch.stack([pixels for _, pixels in found]), self.labels[rows])

    def pixels(self, index: int) -> Tensor | None:
        """One image (C, H, W), uint8, or None where it can't be read."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                warnings.simplefilter("ignore", UserWarning)  # Pillow's warnings about odd metadata
                with self.read(index) as picture:
                    return to_pixels(picture, self.request.size, self.request.channels)
        except (*UNREADABLE, Image.DecompressionBombWarning):
            return None

    def _readable(self, index: int) -> tuple[int, Tensor]:
        for offset in range(len(self)):
            candidate = (index + offset) % len(self)
            if candidate in self.skipped:
                continue
            self.seen += 1
            pixels = self.pixels(candidate)
            if pixels is not None:
                return candidate, pixels
            self.skipped.add(candidate)
            logger.warning("skipped an image that can't be read: %s", self.names[candidate])
        raise EbmctlError(f"none of the {len(self)} images can be read")


def in_memory(images: LazyImages) -> ImageDataset:
    """The same images decoded at once, without those that can't be read, where there are few enough of them."""
    size = len(images) * images.request.channels * images.request.size**2
    if size > MEMORY_LIMIT or len(images) > MOST_AT_ONCE:
        return images
    decoded = [images.pixels(index) for index in range(len(images))]
    bad = [str(images.names[index]) for index, pixels in enumerate(decoded) if pixels is None]
    kept = torch.tensor([pixels is not None for pixels in decoded])
    check_share(len(bad), len(images), bad[:3])
    if bad:
        names = ", ".join(bad[:10]) + (", ..." if len(bad) > 10 else "")
        logger.warning("skipped %d of %d images that can't be read: %s", len(bad), len(images), names)
    pixels = torch.stack([p for p in decoded if p is not None])
    return TensorImages(pixels, images.labels[kept], images.label_names, images.exclusive)


def check_share(bad: int, total: int, names: Sequence[str]) -> None:
    """Raise EbmctlError where more than 1 % can't be read."""
    if bad * 100 > total:
        raise EbmctlError(f"{bad} of {total} images can't be read, more than 1 %: {', '.join(names)} ...")
