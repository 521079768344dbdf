"""The digits that scikit-learn ships: 1,797 real 8x8 images (UCI)."""

from __future__ import annotations

import torch

from ebmctl.data.base import DataRequest, ImageDataset, TensorImages
from ebmctl.data.transform import fit_pixels
from ebmctl.errors import EbmctlError


def make(request: DataRequest) -> ImageDataset:
    """Digits with their class; a fifth, chosen at random once and for all, is the test split."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EbmctlError("the digits need scikit-learn: pip install 'ebmctl[digits]'") from error
    bunch = load_digits()
    levels = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)  # 17 grey levels
    order = torch.randperm(len(levels), generator=torch.Generator().manual_seed(0))
    cut = len(order) // 5
    rows = order[:cut] if request.split == "test" else order[cut:]
    images = fit_pixels(levels[rows].round().byte(), request.size, request.channels)
    labels = torch.eye(10)[torch.from_numpy(bunch.target)[rows]]
    return TensorImages(images, labels, [str(digit) for digit in range(10)])
