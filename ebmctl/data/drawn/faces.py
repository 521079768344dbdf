"""Cartoon faces that the package draws itself: four binary attributes, and all else varying freely."""

from __future__ import annotations

import colorsys
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.drawn.images import DrawnImages, stream
from ebmctl.data.transform import to_pixels

ATTRIBUTES = ("young", "female", "smiling", "wavy_hair")
SIZE = 32
CANVAS = 128  # drawn at four times the size, and shrunk

Color = tuple[int, int, int]
Array = NDArray[np.float64]
_CIRCLE: Array = np.stack([f(np.linspace(0, 2 * np.pi, 20, endpoint=False)) for f in (np.cos, np.sin)], 1)
LENGTHS = (
    (0.235, 0.285),  # the width of the head
    (0.3, 0.345),  # its height
    (-0.05, 0.05),  # to the right of the middle
    (-0.03, 0.04),  # below it
    (-0.14, 0.14),  # how far the head is tilted
    (0.4, 0.5),  # from the nose to an eye
    (-0.25, 0.25),  # where the eyes look to
    (0, 2 * np.pi),  # of the waves of the hair
)


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


def make(request: DataRequest) -> ImageDataset:
    """50,000 faces to train and 5,000 to test, with the attributes young, female, smiling and wavy_hair."""
    return DrawnImages(request, ATTRIBUTES, _draw)


def _draw(indices: list[int], request: DataRequest) -> tuple[Tensor, Tensor]:
    labels, pictures = [], []
    for index in indices:
        draw = np.random.default_rng([index, stream(request.split)])
        values = draw.integers(0, 2, len(ATTRIBUTES)).tolist()
        labels.append(values)
        pictures.append(face(look(draw, young=bool(values[0])), *values))
    if (request.size, request.channels) == (SIZE, 3):  # as they are, which is a fifth faster
        images = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2)
    else:
        images = torch.stack([to_pixels(picture, request.size, request.channels) for picture in pictures])
    return images, torch.tensor(labels, dtype=torch.float32)


def look(draw: np.random.Generator, young: bool) -> Look:
    """Draw everything that is no attribute; hair is grey or white unless young."""
    tone, *strands = draw.random(4 if young else 3).tolist()  # together, as a call for each costs more than the number
    red, green, blue = (int(a + tone * (b - a)) for a, b in zip((255, 222, 196), (104, 66, 42), strict=True))
    if young:
        hair = _hsv(*_between(strands, (0.02, 0.14), (0.45, 0.9), (0.08, 0.85)))
    else:
        hair = _hsv(0.6, *_between(strands, (0.0, 0.08), (0.66, 0.95)))
    free = draw.random(6).tolist()
    iris = (0.08, 0.3, 0.58)[draw.integers(3)]
    glow, *lengths = _between(draw.random(9).tolist(), (0.25, 0.6), *LENGTHS)
    width, height, x, y, tilt, eyes, gaze, phase = lengths
    return Look(
        background=_hsv(*_between(free[:3], (0, 1), (0.15, 0.6), (0.35, 0.95))),
        clothes=_hsv(*_between(free[3:], (0, 1), (0.3, 0.9), (0.25, 0.9))),
        skin=(red, green, blue),
        hair=hair,
        iris=_hsv(iris, 0.7, glow),
        width=width,
        height=height,
        center=(0.5 + x, 0.5 + y),
        tilt=tilt,
        eyes=eyes,
        gaze=gaze,
        phase=phase,
    )


def _between(shares: list[float], *ranges: tuple[float, float]) -> list[float]:
    return [low + (high - low) * share for share, (low, high) in zip(shares, ranges, strict=True)]


def _hsv(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(255 * red), int(255 * green), int(255 * blue)


def face(look: Look, young: bool, female: bool, smiling: bool, wavy_hair: bool) -> Image.Image:
    """One face, 32 x 32, in colour."""
    pen = _Pen()
    pen.shape(look.clothes, _CLOTHES)
    if female:
        pen.shape(look.hair, _waves(look.phase) if wavy_hair else _OUTLINE)
    pen.shape(_shade(look.skin, 0.85), _NECK)
    pen.shape(look.skin, _HEAD)
    _eyes(pen, look, female)
    pen.line(_shade(look.skin, 0.7), _NOSE, 0.07)
    _mouth(pen, look, female, smiling)
    if not young:
        for points, width in _AGE_LINES:
            pen.line(_shade(look.skin, 0.62), points, width)
    pen.shape(look.hair, _fringe(look.phase, female) if wavy_hair else _FRINGES[female])
    return pen.picture(look).reduce(CANVAS // SIZE)


class _Pen:
    """Takes down what to draw in the face's own coordinates: its middle is (0, 0), its edges are at -1 and 1."""

    def __init__(self) -> None:
        self.strokes: list[tuple[Color, Array, float, float]] = []

    def shape(self, color: Color, points: Array, x: float = 0.0) -> None:
        """Fill a polygon, moved to the right by x."""
        self.strokes.append((color, points, 0.0, x))

    def line(self, color: Color, points: Array, width: float, x: float = 0.0) -> None:
        """Draw a line through points, moved to the right by x."""
        self.strokes.append((color, points, width, x))

    def picture(self, look: Look) -> Image.Image:
        """The strokes in their order on the canvas: all points are placed at once, which is most of the speed."""
        picture = Image.new("RGB", (CANVAS, CANVAS), look.background)
        draw, scale = ImageDraw.Draw(picture), CANVAS * look.width
        numbers = [len(points) for _, points, _, _ in self.strokes]
        placed = np.concatenate([points for _, points, _, _ in self.strokes])
        placed[:, 0] += np.repeat([x for *_, x in self.strokes], numbers)
        cos, sin = np.cos(look.tilt), np.sin(look.tilt)
        matrix = CANVAS * (np.array([[cos, -sin], [sin, cos]]) * [look.width, look.height]).T  # points are rows
        values, end = (placed @ matrix + CANVAS * np.array(look.center)).ravel().tolist(), 0
        for (color, _, width, _), number in zip(self.strokes, numbers, strict=True):
            start, end = end, end + 2 * number
            if width:
                draw.line(values[start:end], fill=color, width=max(1, round(width * scale)), joint="curve")
            else:
                draw.polygon(values[start:end], fill=color)
        return picture


def _shade(color: Color, factor: float) -> Color:
    return int(color[0] * factor), int(color[1] * factor), int(color[2] * factor)


def _points(*points: tuple[float, float]) -> Array:
    return np.array(points, dtype=np.float64)


def _oval(center: tuple[float, float], width: float, height: float) -> Array:
    points: Array = _CIRCLE * [width, height] + center
    return points


def _outline(width: float, top: float, shoulder: float, bottom: float) -> Array:
    """Long hair from the top of the head down both sides."""
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    arch = np.stack([width * np.cos(angle), top * np.sin(angle) + shoulder * 0.2], 1)
    down = np.linspace(shoulder * 0.2, bottom, 24)
    right = np.stack([np.full(24, width), down], 1)
    return np.concatenate([arch, right, right[::-1] * [-1, 1]])


_CLOTHES = _points((-1.5, 2.2), (-1.35, 1.45), (-0.45, 1.05), (0.45, 1.05), (1.35, 1.45), (1.5, 2.2))
_NECK = _points((-0.32, 0.7), (0.32, 0.7), (0.36, 1.2), (-0.36, 1.2))
_HEAD = _oval((0, 0), 1, 1)
_NOSE = _points((0.02, 0.0), (0.1, 0.28), (-0.04, 0.3))
_OUTLINE = _outline(1.36, 1.24, 0.35, 1.35)
_ALONG = np.concatenate([np.linspace(0, 7, 40), np.linspace(7, 12, 24), np.linspace(12, 7, 24)]) * 2.2


def _waves(phase: float) -> Array:
    """The outline of long hair with bumps."""
    points: Array = _OUTLINE * (1 + 0.11 * np.sin(2 * np.pi * _ALONG / 2.2 + phase))[:, None]
    return points


_ARCH = np.linspace(np.pi * 1.04, np.pi * 1.96, 36)
_ACROSS = np.linspace(1, -1, 30)
_COS, _SIN, _TURNS = np.cos(_ARCH), np.sin(_ARCH), np.linspace(0, 6 * 2 * np.pi, 36)


def _fringe(phase: float | None, female: bool) -> Array:
    """Hair over the forehead: a cap, low at the sides for long hair; its edges wave where there is a phase."""
    low = -0.1 if female else -0.42
    bumps = np.zeros(36) if phase is None else 0.13 * np.sin(_TURNS + phase)
    curve = -0.62 + (low + 0.62) * _ACROSS**2
    if phase is not None:
        curve = curve + 0.12 * np.sin(_ACROSS * 11 + phase)
    points = np.empty((66, 2))
    points[:36, 0], points[:36, 1] = (1.13 + bumps) * _COS, (1.2 + bumps) * _SIN
    points[36:, 0], points[36:, 1] = _ACROSS * 1.02, curve
    return points


_FRINGES = (_fringe(None, False), _fringe(None, True))
_EYE = -0.12  # its height
_WHITE, _IRIS, _PUPIL = _oval((0, _EYE), 0.23, 0.14), _oval((0, _EYE), 0.12, 0.13), _oval((0, _EYE), 0.06, 0.07)
_BROW = _points((-0.22, _EYE - 0.26), (0, _EYE - 0.33), (0.22, _EYE - 0.26))
_LASHES = _points((-0.26, _EYE - 0.06), (0, _EYE - 0.17), (0.26, _EYE - 0.06))
_CORNERS = {side: _points((side * 0.22, _EYE - 0.08), (side * 0.36, _EYE - 0.2)) for side in (-1, 1)}


def _eyes(pen: _Pen, look: Look, female: bool) -> None:
    brow, lash = _shade(look.hair, 0.6), (20, 15, 20)
    for side in (-1, 1):
        x = side * look.eyes
        pen.shape((250, 250, 250), _WHITE, x)
        pen.shape(look.iris, _IRIS, x + 0.1 * look.gaze)
        pen.shape((15, 15, 20), _PUPIL, x + 0.1 * look.gaze)
        pen.line(brow, _BROW, 0.06 if female else 0.12, x)
        if female:
            pen.line(lash, _LASHES, 0.1, x)
            pen.line(lash, _CORNERS[side], 0.08, x)


_LIP = np.linspace(-1, 1, 14)
_BEND = 1 - _LIP**2
_UPPER, _LOWER = np.stack([0.46 * _LIP, 0.5 + 0.04 * _BEND], 1), np.stack([0.46 * _LIP[::-1], 0.5 + 0.34 * _BEND], 1)
_OPEN = np.concatenate([_UPPER, _LOWER])
_TEETH = np.concatenate([_UPPER * [0.83, 1], np.stack([0.38 * _LIP[::-1], 0.53 + 0.14 * _BEND], 1)])
_LIPS, _GAP = _oval((0, 0.56), 0.3, 0.09), _points((-0.28, 0.56), (0.28, 0.56))
_CLOSED = _points((-0.34, 0.57), (0.34, 0.57))


def _mouth(pen: _Pen, look: Look, female: bool, smiling: bool) -> None:
    lips = (190, 30, 60) if female else _shade(look.skin, 0.55)
    if smiling:
        pen.shape((90, 15, 25), _OPEN)
        pen.shape((250, 250, 250), _TEETH)
        pen.line(lips, _LOWER, 0.12 if female else 0.07)
    elif female:
        pen.shape(lips, _LIPS)
        pen.line(_shade(lips, 0.6), _GAP, 0.05)
    else:
        pen.line(lips, _CLOSED, 0.1)


_AGE_LINES = [(_points((-0.42, -0.5), (0.0, -0.54), (0.42, -0.5)), 0.06)]
for _side in (-1, 1):
    _AGE_LINES.append((_points((_side * 0.3, 0.22), (_side * 0.54, 0.42), (_side * 0.58, 0.66)), 0.07))
    _AGE_LINES.append((_points((_side * 0.62, 0.06), (_side * 0.3, 0.08)), 0.05))
