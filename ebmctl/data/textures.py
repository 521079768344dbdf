"""Describable Textures Dataset (DTD)."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.datasets import missing
from ebmctl.data.lazy import LazyImages, PairReader, in_memory


def make(request: DataRequest) -> ImageDataset:
    """DTD's first partition with its 47 kinds: train, or test; resized and cropped at the centre."""
    from torchvision.datasets import DTD

    try:
        found = DTD(str(request.root), split=request.split, download=request.download)
    except (OSError, RuntimeError) as error:
        how = "get dtd-r1.0.1.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/dtd and unpack it into dtd/"
        raise missing("textures", request.root, how, error) from error
    classes = torch.tensor([found.class_to_idx[path.parent.name] for path in found._image_files])
    labels = torch.eye(len(found.classes))[classes]
    names = [f"{path.parent.name}/{path.name}" for path in found._image_files]
    return in_memory(LazyImages(names, PairReader(found), labels, found.classes, request))
