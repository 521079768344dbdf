"""Pictures by matplotlib: rows of images with titles, grids side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ebmctl.core.buffer import quantize
from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_file
from ebmctl.models.pictures import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120


def new_figure(width: float, height: float, extra: str = "evaluate") -> Figure:
    """A figure of a size in inches; raises EbmctlError that says how to get matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EbmctlError(f"figures are drawn by matplotlib: pip install 'ebmctl[{extra}]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all."""
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=DPI)


def save_columns(path: Path, columns: Sequence[tuple[str, Tensor]], title: str) -> None:
    """Columns of images (B, C, H, W), each under its own heading; row b holds the b-th of each."""
    rows = len(columns[0][1])
    figure = new_figure(max(0.75 * len(columns) + 0.2, 5.0), 0.75 * rows + 0.9)
    all_axes: Any = figure.subplots(rows, len(columns), squeeze=False)
    for across, (heading, images) in enumerate(columns):
        for down in range(rows):
            _show(all_axes[down, across], images[down])
        all_axes[0, across].set_title(heading.replace(" ", "\n", 1), fontsize=7)
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def save_grids(path: Path, grids: Sequence[tuple[str, Tensor]], title: str) -> None:
    """Square grids of images (B, C, H, W) side by side, each under its heading."""
    figure = new_figure(4.0 * len(grids), 4.6)
    for axes, (heading, images) in zip(np.atleast_1d(figure.subplots(1, len(grids))), grids, strict=True):
        axes.imshow(np.asarray(grid(images.cpu()).convert("RGB")), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(heading, fontsize=9)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def around(start: Tensor, images: Tensor) -> Tensor:
    """Images (B, C, H, W), B + 1 an odd square, as a grid with the start (1, C, H, W) in its centre."""
    side = math.isqrt(len(images) + 1)
    if side**2 != len(images) + 1 or side % 2 == 0:
        raise ValueError("there are 8, 24, 48, ... images around one")
    half = len(images) // 2
    return torch.cat([images[:half], start, images[half:]])


def _show(axes: Any, image: Tensor) -> None:
    pixels = quantize(image).permute(1, 2, 0).cpu().numpy()
    axes.imshow(pixels.repeat(3, 2) if pixels.shape[2] == 1 else pixels, interpolation="nearest")
    axes.set_axis_off()
