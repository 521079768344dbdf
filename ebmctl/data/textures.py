"""Describable Textures Dataset (DTD)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import LazyImages, PairReader, in_memory


@dataclass(frozen=True)
class TopLeft:
    """Crops what `read(index)` opens to its top left corner, `size` pixels wide."""

    read: Callable[[int], Image.Image]
    size: int

    def __call__(self, index: int) -> Image.Image:
        """The corner of a picture."""
        with self.read(index) as picture:
            corner: Image.Image = picture.crop((0, 0, self.size, self.size))
        return corner


def make(request: DataRequest) -> ImageDataset:
    """DTD's first partition with its 47 kinds: train, or test; resized and cropped at the centre."""
    return _textures(request, top_left=False)


def make_top_left(request: DataRequest) -> ImageDataset:
    """The same, each picture's top left corner at full resolution: what the paper's authors compared with."""
    return _textures(request, top_left=True)


def _textures(request: DataRequest, top_left: bool) -> ImageDataset:
    from torchvision.datasets import DTD

    try:
        found = DTD(str(request.root), split=request.split, download=request.download)
    except (OSError, RuntimeError) as error:
        how = "get dtd-r1.0.1.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/dtd and unpack it into dtd/"
        raise missing("textures", request.root, how, error) from error
    classes = torch.tensor([found.class_to_idx[path.parent.name] for path in found._image_files])
    labels = torch.eye(len(found.classes))[classes]
    names = [f"{path.parent.name}/{path.name}" for path in found._image_files]
    read: Callable[[int], Image.Image] = PairReader(found)
    if top_left:
        read = TopLeft(read, request.size)
    return in_memory(LazyImages(names, read, labels, found.classes, request))
