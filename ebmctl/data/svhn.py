"""Street View House Numbers, cropped digits."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset, TensorImages
from ebmctl.data.datasets import missing
from ebmctl.data.transform import fit_pixels


def make(request: DataRequest) -> ImageDataset:
    """SVHN with the digit as class (torchvision reads its .mat files, by scipy)."""
    from torchvision.datasets import SVHN

    folder = request.root / "svhn"
    try:
        found = SVHN(str(folder), split=request.split, download=request.download)
    except (OSError, RuntimeError, ImportError) as error:
        how = f"get {request.split}_32x32.mat from http://ufldl.stanford.edu/housenumbers (scipy reads it)"
        raise missing("svhn", folder, how, error) from error
    images = fit_pixels(torch.from_numpy(found.data), request.size, request.channels)
    labels = torch.eye(10)[torch.from_numpy(found.labels).long()]
    return TensorImages(images, labels, [str(digit) for digit in range(10)])
