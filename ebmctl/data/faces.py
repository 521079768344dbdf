"""Cartoon faces that the package draws itself: four binary attributes, and all else varying freely."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageBatch, ImageDataset
from ebmctl.data.transform import to_pixels

ATTRIBUTES = ("young", "female", "smiling", "wavy_hair")
COUNT = {"train": 50_000, "test": 5_000}
SIZE = 32
CANVAS = 128  # drawn at four times the size, and shrunk

Color = tuple[int, int, int]
Array = NDArray[np.float64]
_CIRCLE: Array = np.stack([f(np.linspace(0, 2 * np.pi, 20, endpoint=False)) for f in (np.cos, np.sin)], 1)


class Look(NamedTuple):
    """What varies freely from face to face; lengths are in shares of the picture's width."""

    background: Color
    clothes: Color
    skin: Color
    hair: Color
    iris: Color
    width: float
    height: float
    center: tuple[float, float]
    tilt: float
    eyes: float
    gaze: float
    phase: float


class DrawnFaces:
    """Faces that are drawn when they are first asked for, and kept; an index always gives the same face."""

    label_names: tuple[str, ...] = ATTRIBUTES
    exclusive = False

    def __init__(self, request: DataRequest) -> None:
        self.request, count = request, COUNT[request.split]
        self.images = torch.empty((count, request.channels, request.size, request.size), dtype=torch.uint8)
        self.labels = torch.empty(count, len(ATTRIBUTES))
        self.drawn = torch.zeros(count, dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        rows = torch.as_tensor(indices)
        for row in rows[~self.drawn[rows]].tolist():
            self.images[row], labels = self._draw(row)
            self.labels[row] = torch.tensor(labels, dtype=torch.float32)
            self.drawn[row] = True
        return ImageBatch(self.images[rows], self.labels[rows])

    def _draw(self, index: int) -> tuple[Tensor, list[int]]:
        draw = np.random.default_rng([index, 0 if self.request.split == "train" else 1])
        values = draw.integers(0, 2, len(ATTRIBUTES)).tolist()
        picture = face(look(draw, young=bool(values[0])), *map(bool, values))
        return to_pixels(picture, self.request.size, self.request.channels), values


def make(request: DataRequest) -> ImageDataset:
    """50,000 faces to train and 5,000 to test, with the attributes young, female, smiling and wavy_hair."""
    return DrawnFaces(request)


def look(draw: np.random.Generator, young: bool) -> Look:
    """Draw everything that is no attribute; hair is grey or white unless young."""
    tone = draw.uniform()
    skin = tuple(int(a + tone * (b - a)) for a, b in zip((255, 222, 196), (104, 66, 42), strict=True))
    if young:
        hue, saturation, value = draw.uniform(0.02, 0.14), draw.uniform(0.45, 0.9), draw.uniform(0.08, 0.85)
    else:
        hue, saturation, value = 0.6, draw.uniform(0.0, 0.08), draw.uniform(0.66, 0.95)
    return Look(
        background=_hsv(draw.uniform(), draw.uniform(0.15, 0.6), draw.uniform(0.35, 0.95)),
        clothes=_hsv(draw.uniform(), draw.uniform(0.3, 0.9), draw.uniform(0.25, 0.9)),
        skin=(skin[0], skin[1], skin[2]),
        hair=_hsv(hue, saturation, value),
        iris=_hsv(draw.choice([0.08, 0.3, 0.58]), 0.7, draw.uniform(0.25, 0.6)),
        width=draw.uniform(0.235, 0.285),
        height=draw.uniform(0.3, 0.345),
        center=(0.5 + draw.uniform(-0.05, 0.05), 0.5 + draw.uniform(-0.03, 0.04)),
        tilt=draw.uniform(-0.14, 0.14),
        eyes=draw.uniform(0.4, 0.5),
        gaze=draw.uniform(-0.25, 0.25),
        phase=draw.uniform(0, 2 * np.pi),
    )


def _hsv(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def face(look: Look, young: bool, female: bool, smiling: bool, wavy_hair: bool) -> Image.Image:
    """One face, 32 x 32, in colour."""
    picture = Image.new("RGB", (CANVAS, CANVAS), look.background)
    pen = _Pen(ImageDraw.Draw(picture), look)
    pen.shape(look.clothes, [(-1.5, 2.2), (-1.35, 1.45), (-0.45, 1.05), (0.45, 1.05), (1.35, 1.45), (1.5, 2.2)])
    if female:
        pen.shape(look.hair, _outline(1.36, 1.24, 0.35, 1.35, wavy_hair, look.phase))
    pen.shape(_shade(look.skin, 0.85), [(-0.32, 0.7), (0.32, 0.7), (0.36, 1.2), (-0.36, 1.2)])
    pen.oval(look.skin, (0, 0), 1, 1)
    _eyes(pen, look, female)
    pen.line(_shade(look.skin, 0.7), [(0.02, 0.0), (0.1, 0.28), (-0.04, 0.3)], 0.07)
    _mouth(pen, look, female, smiling)
    if not young:
        _age_lines(pen, look)
    _fringe(pen, look, female, wavy_hair)
    return picture.reduce(CANVAS // SIZE)


class _Pen:
    """Draws in the face's own coordinates: its middle is (0, 0), its edges are at -1 and 1, it may be tilted."""

    def __init__(self, draw: ImageDraw.ImageDraw, look: Look) -> None:
        self.draw = draw
        cos, sin = np.cos(look.tilt), np.sin(look.tilt)
        turn = np.array([[cos, -sin], [sin, cos]])
        self.matrix = CANVAS * (turn * [look.width, look.height]).T  # points are rows
        self.center = CANVAS * np.array(look.center)
        self.scale = CANVAS * look.width

    def points(self, points: Array | Sequence[tuple[float, float]]) -> list[float]:
        """Points of the face as x, y, x, y, ... of the picture."""
        placed: list[float] = (np.asarray(points) @ self.matrix + self.center).ravel().tolist()
        return placed

    def shape(self, color: Color, points: Array | Sequence[tuple[float, float]]) -> None:
        self.draw.polygon(self.points(points), fill=color)

    def oval(self, color: Color, center: tuple[float, float], width: float, height: float) -> None:
        self.shape(color, _CIRCLE * [width, height] + center)

    def line(self, color: Color, points: Sequence[tuple[float, float]], width: float) -> None:
        self.draw.line(self.points(points), fill=color, width=max(1, round(width * self.scale)), joint="curve")


def _shade(color: Color, factor: float) -> Color:
    return int(color[0] * factor), int(color[1] * factor), int(color[2] * factor)


def _outline(width: float, top: float, shoulder: float, bottom: float, wavy: bool, phase: float) -> Array:
    """Long hair from the top of the head down both sides; wavy hair has bumps, straight hair a smooth edge."""
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    arch = np.stack([width * np.cos(angle), top * np.sin(angle) + shoulder * 0.2], 1)
    down = np.linspace(shoulder * 0.2, bottom, 24)
    right = np.stack([np.full(24, width), down], 1)
    points: Array = np.concatenate([arch, right, right[::-1] * [-1, 1]])
    if wavy:
        along = np.concatenate([np.linspace(0, 7, 40), np.linspace(7, 12, 24), np.linspace(12, 7, 24)]) * 2.2
        points *= (1 + 0.11 * np.sin(2 * np.pi * along / 2.2 + phase))[:, None]
    return points


def _fringe(pen: _Pen, look: Look, female: bool, wavy: bool) -> None:
    """Hair over the forehead: a cap, low at the sides for long hair; its edges wave or are straight."""
    low = -0.1 if female else -0.42
    angle = np.linspace(np.pi * 1.04, np.pi * 1.96, 36)
    bumps = 0.13 * np.sin(np.linspace(0, 6 * 2 * np.pi, 36) + look.phase) if wavy else np.zeros(36)
    outer = np.stack([(1.13 + bumps) * np.cos(angle), (1.2 + bumps) * np.sin(angle)], 1)
    across = np.linspace(1, -1, 30)
    curve = -0.62 + (low + 0.62) * across**2
    if wavy:
        curve = curve + 0.12 * np.sin(across * 11 + look.phase)
    pen.shape(look.hair, np.concatenate([outer, np.stack([across * 1.02, curve], 1)]))


def _eyes(pen: _Pen, look: Look, female: bool) -> None:
    for side in (-1, 1):
        x, y = side * look.eyes, -0.12
        pen.oval((250, 250, 250), (x, y), 0.23, 0.14)
        pen.oval(look.iris, (x + 0.1 * look.gaze, y), 0.12, 0.13)
        pen.oval((15, 15, 20), (x + 0.1 * look.gaze, y), 0.06, 0.07)
        brow = _shade(look.hair, 0.6)
        pen.line(brow, [(x - 0.22, y - 0.26), (x, y - 0.33), (x + 0.22, y - 0.26)], 0.06 if female else 0.12)
        if female:
            lash = (20, 15, 20)
            pen.line(lash, [(x - 0.26, y - 0.06), (x, y - 0.17), (x + 0.26, y - 0.06)], 0.1)
            pen.line(lash, [(x + side * 0.22, y - 0.08), (x + side * 0.36, y - 0.2)], 0.08)


def _mouth(pen: _Pen, look: Look, female: bool, smiling: bool) -> None:
    lips = (190, 30, 60) if female else _shade(look.skin, 0.55)
    across = np.linspace(-1, 1, 14)
    if smiling:
        upper = np.stack([0.46 * across, 0.5 + 0.04 * (1 - across**2)], 1)
        lower = np.stack([0.46 * across[::-1], 0.5 + 0.34 * (1 - across**2)], 1)
        pen.shape((90, 15, 25), np.concatenate([upper, lower]))
        teeth = np.stack([0.38 * across[::-1], 0.53 + 0.14 * (1 - across**2)], 1)
        pen.shape((250, 250, 250), np.concatenate([upper * [0.83, 1], teeth]))
        edge = [(float(x), float(y)) for x, y in lower]
        pen.line(lips, edge, 0.12 if female else 0.07)
    elif female:
        pen.oval(lips, (0, 0.56), 0.3, 0.09)
        pen.line(_shade(lips, 0.6), [(-0.28, 0.56), (0.28, 0.56)], 0.05)
    else:
        pen.line(lips, [(-0.34, 0.57), (0.34, 0.57)], 0.1)


def _age_lines(pen: _Pen, look: Look) -> None:
    line = _shade(look.skin, 0.62)
    pen.line(line, [(-0.42, -0.5), (0.0, -0.54), (0.42, -0.5)], 0.06)
    for side in (-1, 1):
        pen.line(line, [(side * 0.3, 0.22), (side * 0.54, 0.42), (side * 0.58, 0.66)], 0.07)
        pen.line(line, [(side * 0.62, 0.06), (side * 0.3, 0.08)], 0.05)
