"""Solids on the ground that the package draws itself: four attributes of several values, all else varying freely."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.drawn.images import DrawnImages, stream
from ebmctl.data.drawn.render import DISTANCE, SOLIDS, Array, Scenes, render
from ebmctl.data.transform import fit_pixels

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "identity": SOLIDS,
    "size": ("small", "medium", "large"),
    "position": ("left", "middle", "right"),
    "rotation": ("front", "right", "back", "left"),  # where the white half looks to
}
LABELS = tuple(f"{name}={value}" for name, values in ATTRIBUTES.items() for value in values)
SIZES = (0.7, 0.95, 1.26)
ASIDE = 1.2  # of the positions left and right, in the units of the sizes
DRAWS = 20  # random numbers for a scene: one for each attribute, the others for what varies freely


def make(request: DataRequest) -> ImageDataset:
    """50,000 solids to train and 5,000 to test, with the attributes identity, size, position and rotation."""
    return DrawnImages(request, LABELS, _draw)


def _draw(indices: list[int], request: DataRequest) -> tuple[Tensor, Tensor]:
    seed = stream(request.split)
    draws = np.stack([np.random.default_rng([index, seed]).random(DRAWS) for index in indices])
    values = np.stack([(draws[:, i] * len(v)).astype(np.intp) for i, v in enumerate(ATTRIBUTES.values())], 1)
    pictures = torch.from_numpy(render(scenes(values, draws[:, len(ATTRIBUTES) :]), request.size))
    return fit_pixels(pictures.permute(0, 3, 1, 2).contiguous(), request.size, request.channels), one_hot(values)


def one_hot(values: NDArray[np.intp]) -> Tensor:
    """Labels (N, 14) of the attributes' values (N, 4): one-hot groups, one after the other."""
    groups = [torch.eye(len(v))[torch.from_numpy(values[:, i])] for i, v in enumerate(ATTRIBUTES.values())]
    return torch.cat(groups, 1)


def scenes(values: NDArray[np.intp], draws: NDArray[np.float64]) -> Scenes:
    """Scenes for the attributes' values (N, 4); random numbers (N, 16) in [0, 1) settle all else."""
    solid, size, position, rotation = values.T

    def between(column: int, low: float, high: float) -> Array:
        return (low + (high - low) * draws[:, column]).astype(np.float32)

    hue = draws[:, 0]
    body = [_hsv(h, 0.65 + 0.35 * s, 0.65 + 0.3 * v) for h, s, v in zip(hue, draws[:, 1], draws[:, 2], strict=True)]
    other = hue + 0.2 + 0.6 * draws[:, 3]  # the ground has another hue than the solid
    ground = [_hsv(h, 0.2 + 0.35 * s, 0.35 + 0.3 * v) for h, s, v in zip(other, draws[:, 4], draws[:, 5], strict=True)]
    x = ASIDE * (position - 1) + between(8, -0.1, 0.1)
    side = np.where(draws[:, 6] < 0.5, -1, 1).astype(np.float32)
    return Scenes(
        solid=solid,
        size=np.array(SIZES, np.float32)[size] * between(7, 0.96, 1.04),
        place=np.stack([x, between(9, -0.25, 0.25)], 1).astype(np.float32),
        facing=(np.pi / 2 * rotation + between(10, -0.2, 0.2) - np.arctan(x / DISTANCE)).astype(np.float32),  # as seen
        sun=side * between(11, 0.6, 1.9),
        height=between(12, 0.65, 0.95),
        body=np.array(body, np.float32),
        paint=np.full((len(values), 3), 0.97, np.float32),
        ground=np.array(ground, np.float32),
        pitch=between(13, 0.52, 0.62),
        zoom=between(14, 2.65, 2.8),
    )


def _hsv(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    return colorsys.hsv_to_rgb(hue % 1, saturation, value)
