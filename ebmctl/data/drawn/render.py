"""Pictures of one solid on the ground: a small ray caster for batches of scenes, in plain NumPy.

The world: x goes to the right, y away from the camera, z up; the ground is z = 0. Lengths are in units of the solids'
own size. Only sums, products and square roots are taken along the rays, so that a scene's pixels do not depend on the
batch that it is in.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SOLIDS = ("cube", "sphere", "cylinder", "cone")
SAMPLES = 3  # each way in a pixel
DISTANCE = 9.0  # from the camera to the point it looks at
LOOK_AT = 0.65  # the height of that point
AMBIENT, SKY, SUN = 0.36, 0.08, 0.64  # light from everywhere, more from above, and from the sun
AT_ONCE = 32  # scenes; more would not stay in the processor's cache

Array = NDArray[Any]  # float32: NumPy's own types lose that in arithmetic with numbers
Index = NDArray[np.intp]
Columns = tuple[Array, Array, Array]  # x, y, z


class Solid(NamedTuple):
    """Its height, and the square of its radius at height z as a z^2 + b z + c; or half the side of a square one."""

    height: float
    reach: float  # the largest distance from the axis
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    half_side: float = 0.0

    @property
    def square(self) -> bool:
        """Whether it has flat sides."""
        return self.half_side > 0


_SLOPE = (1.12 / 2.1) ** 2
_SOLIDS = (
    Solid(height=1.62, reach=1.146, half_side=0.81),
    Solid(height=2.0, reach=1.0, a=-1.0, b=2.0),
    Solid(height=1.75, reach=0.88, c=0.88**2),
    Solid(height=2.1, reach=1.12, a=_SLOPE, b=-2 * _SLOPE * 2.1, c=_SLOPE * 2.1**2),
)


class Scenes(NamedTuple):
    """N scenes; colours are (N, 3) in [0, 1], angles in radians.

    `facing` is where the painted half looks to, and `sun` where the light comes from, both counted from the camera's
    side over the right: 0 is towards the camera, pi / 2 to the right. `height` is that of the sun over the horizon; it
    and `pitch` must stay below the cone's slope of 62 degrees.
    """

    solid: NDArray[np.intp]  # (N,), the place in SOLIDS
    size: Array  # (N,)
    place: Array  # (N, 2), x and y
    facing: Array  # (N,)
    sun: Array  # (N,)
    height: Array  # (N,)
    body: Array
    paint: Array
    ground: Array
    pitch: Array  # (N,), of the camera, downwards
    zoom: Array  # (N,), half the picture's width at the point that the camera looks at


def render(scenes: Scenes, size: int) -> NDArray[np.uint8]:
    """The pictures (N, size, size, 3), uint8."""
    pictures = np.empty((len(scenes.solid), size, size, 3), np.uint8)
    for solid in range(len(SOLIDS)):
        rows = np.flatnonzero(scenes.solid == solid)
        for start in range(0, len(rows), AT_ONCE):
            chosen = rows[start : start + AT_ONCE]
            pictures[chosen] = _render(Scenes._make(field[chosen] for field in scenes), size)
    return pictures


def directions(angle: Array) -> Array:
    """Unit vectors (N, 2) on the ground, for angles that are counted as those of `Scenes`."""
    return np.stack([np.sin(angle), -np.cos(angle)], 1)


def _render(scenes: Scenes, size: int) -> NDArray[np.uint8]:
    """The pictures of scenes with one kind of solid."""
    sun = np.concatenate([directions(scenes.sun) * np.cos(scenes.height)[:, None], np.sin(scenes.height)[:, None]], 1)
    view = _View(scenes, size * SAMPLES)
    picture = _ground(scenes, view, sun)
    _add_shadow(picture, scenes, view, sun)
    _add_solid(picture, scenes, view, sun)
    blocks = picture.reshape(len(picture), size, SAMPLES, size, SAMPLES, 3)
    rows = _total([blocks[:, :, i] for i in range(SAMPLES)])
    total = _total([rows[:, :, :, i] for i in range(SAMPLES)])
    levels = total * np.float32(255 / SAMPLES**2) + np.float32(0.5)
    made: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return made


def _total(parts: Sequence[Array]) -> Array:
    return functools.reduce(np.add, parts)


def _light(up: Array | np.floating[Any], towards_sun: Array | np.floating[Any]) -> Array:
    """How bright a surface is, by two parts of its unit normal; the second is 0 in the shadow."""
    light: Array = np.asarray(np.float32(AMBIENT) + np.float32(SKY) * up + np.float32(SUN) * towards_sun)
    return light


def _ground(scenes: Scenes, view: _View, sun: Array) -> Array:
    """Ground in the sun (N, W, W, 3), a little darker far away."""
    far = np.clip(1.04 - 0.035 * view.ground_y(), 0.6, 1.2)  # (N, W), the same in a row
    row = (far * _light(np.float32(1), sun[:, 2:]))[:, :, None] * scenes.ground[:, None]
    return np.repeat(row[:, :, None], view.width, axis=2)


def _add_shadow(picture: Array, scenes: Scenes, view: _View, sun: Array) -> None:
    """Darken the ground from which the sun is hidden."""
    corners = _corners(scenes)
    image, row, column = view.inside(corners - corners[..., 2:] / sun[:, None, 2:] * sun[:, None])
    light = _columns(sun[image])
    crossing = _Crossing(scenes, image, view.on_ground(image, row, column), light)
    hidden = (crossing.near < crossing.far) & (crossing.far > 0)
    image, row, column = image[hidden], row[hidden], column[hidden]
    factor = _light(np.float32(1), np.float32(0)) / _light(np.float32(1), sun[image, 2])
    picture[image, row, column] *= factor[:, None]


def _add_solid(picture: Array, scenes: Scenes, view: _View, sun: Array) -> None:
    """Draw the solid where a ray from the camera meets it."""
    image, row, column = view.inside(_corners(scenes))
    origin, direction = view.rays(image, row, column)
    crossing = _Crossing(scenes, image, origin, direction)
    met = np.flatnonzero(crossing.near < crossing.far)
    image, row, column = image[met], row[met], column[met]
    normal, (x, y) = crossing.normal(met), crossing.position(met)
    facing = directions(scenes.facing)[image]
    painted = x * facing[:, 0] + y * facing[:, 1] > 0
    albedo = np.where(painted[:, None], scenes.paint[image], scenes.body[image])
    towards_sun = _total([a * b for a, b in zip(normal, _columns(sun[image]), strict=True)])
    picture[image, row, column] = albedo * _light(normal[2], np.maximum(towards_sun, 0))[:, None]


class _View:
    """The cameras of N scenes, and which rays go through the W x W places of their pictures."""

    def __init__(self, scenes: Scenes, width: int) -> None:
        self.width = width
        self.sin, self.cos = np.sin(scenes.pitch), np.cos(scenes.pitch)
        self.y, self.z = -DISTANCE * self.cos, LOOK_AT + DISTANCE * self.sin  # x is 0
        self.scale = scenes.zoom / np.float32(DISTANCE)
        self.places = ((np.arange(width) + 0.5) / width * 2 - 1).astype(np.float32)

    def rays(self, image: Index, row: Index, column: Index) -> tuple[Columns, Columns]:
        """Origins and directions of the rays through places of the pictures."""
        across, up = self.places[column] * self.scale[image], -self.places[row] * self.scale[image]
        sin, cos = self.sin[image], self.cos[image]
        return (np.zeros_like(across), self.y[image], self.z[image]), (across, cos + up * sin, up * cos - sin)

    def on_ground(self, image: Index, row: Index, column: Index) -> Columns:
        """The points of the ground that are seen at places of the pictures."""
        origin, direction = self.rays(image, row, column)
        depth = -origin[2] / direction[2]
        return depth * direction[0], origin[1] + depth * direction[1], np.zeros_like(depth)

    def ground_y(self) -> Array:
        """How far away the ground is in each row, (N, W)."""
        up = -self.places * self.scale[:, None]
        sin, cos = self.sin[:, None], self.cos[:, None]
        depth = self.z[:, None] / (sin - up * cos)
        y: Array = self.y[:, None] + depth * (cos + up * sin)
        return y

    def inside(self, corners: Array) -> tuple[Index, Index, Index]:
        """The images, rows and columns of all places in the rectangles around points (N, P, 3)."""
        x, y, z = corners[..., 0], corners[..., 1] - self.y[:, None], corners[..., 2] - self.z[:, None]
        sin, cos = self.sin[:, None], self.cos[:, None]
        depth = (y * cos - z * sin) * self.scale[:, None]
        across, down = x / depth, -(y * sin + z * cos) / depth
        rows = (self.places >= down.min(1, keepdims=True)) & (self.places <= down.max(1, keepdims=True))
        columns = (self.places >= across.min(1, keepdims=True)) & (self.places <= across.max(1, keepdims=True))
        image, row, column = np.nonzero(rows[:, :, None] & columns[:, None])
        return image, row, column


class _Crossing:
    """Where rays enter their scene's solid (`near`) and leave it (`far`); near >= far where they miss it."""

    def __init__(self, scenes: Scenes, image: Index, origin: Columns, direction: Columns) -> None:
        self.solid = _SOLIDS[scenes.solid[0]]
        scale = (1 / scenes.size)[image]
        place = scenes.place[image]
        self.origin = ((origin[0] - place[:, 0]) * scale, (origin[1] - place[:, 1]) * scale, origin[2] * scale)
        self.direction = (direction[0] * scale, direction[1] * scale, direction[2] * scale)
        inverse = 1 / self.direction[2]
        bottom = -self.origin[2] * inverse
        self.top = bottom + self.solid.height * inverse
        self.near, self.far = np.minimum(self.top, bottom), np.maximum(self.top, bottom)
        if self.solid.square:
            self._cut_square(directions(scenes.facing + np.float32(np.pi / 4))[image])
        else:
            self._cut_round()

    def normal(self, met: Index) -> Columns:
        """The unit normals of the surface where the rays enter."""
        if self.solid.square:
            x, y = self.side[0][met], self.side[1][met]
            up = np.zeros_like(x)
        else:
            x, y = self.position(met)
            up = -self.solid.a * (self.origin[2][met] + self.near[met] * self.direction[2][met]) - self.solid.b / 2
            length = 1 / np.sqrt(x * x + y * y + up * up)
            x, y, up = x * length, y * length, up * length
        top = self.near[met] == self.top[met]
        return np.where(top, np.float32(0), x), np.where(top, np.float32(0), y), np.where(top, np.float32(1), up)

    def position(self, met: Index) -> tuple[Array, Array]:
        """Where the rays enter: x and y from the solid's axis."""
        (x, y, _), (dx, dy, _), near = self.origin, self.direction, self.near[met]
        return x[met] + near * dx[met], y[met] + near * dy[met]

    def _cut_round(self) -> None:
        """Solve x^2 + y^2 = a z^2 + b z + c along the rays."""
        (x, y, z), (dx, dy, dz), solid = self.origin, self.direction, self.solid
        bent = solid.a * z
        inverse = 1 / (dx * dx + dy * dy - solid.a * dz * dz)
        half = (x * dx + y * dy - (bent + solid.b / 2) * dz) * inverse
        rest = (x * x + y * y - (bent + solid.b) * z - solid.c) * inverse
        root = half * half - rest
        real = np.sqrt(np.maximum(root, 0))
        self.near = np.where(root > 0, np.maximum(self.near, -half - real), np.float32(np.inf))
        self.far = np.minimum(self.far, real - half)

    def _cut_square(self, axis: Array) -> None:
        """Cut by two pairs of parallel sides; `side` is the x and y of the normal of that which was met last."""
        (x, y, _), (dx, dy, _) = self.origin, self.direction
        self.side = (np.zeros_like(x), np.zeros_like(x))
        for ax, ay in ((axis[:, 0], axis[:, 1]), (-axis[:, 1], axis[:, 0])):
            inverse = 1 / (dx * ax + dy * ay)
            middle, reach = -(x * ax + y * ay) * inverse, np.abs(self.solid.half_side * inverse)
            near, sign = middle - reach, np.where(inverse < 0, np.float32(1), np.float32(-1))
            nearer = near > self.near
            self.side = (np.where(nearer, sign * ax, self.side[0]), np.where(nearer, sign * ay, self.side[1]))
            self.near, self.far = np.maximum(self.near, near), np.minimum(self.far, middle + reach)


def _corners(scenes: Scenes) -> Array:
    """The corners (N, 8, 3) of a box around each solid."""
    solid = _SOLIDS[scenes.solid[0]]
    unit = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (0, 1)], np.float32)
    corners: Array = unit * np.array([solid.reach, solid.reach, solid.height], np.float32)
    corners = corners * scenes.size[:, None, None]
    corners[..., :2] += scenes.place[:, None]
    return corners


def _columns(values: Array) -> Columns:
    return values[:, 0], values[:, 1], values[:, 2]
