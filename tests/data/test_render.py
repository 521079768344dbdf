"""The ray caster against a slow one that knows the solids only as sets of points."""

from __future__ import annotations

import numpy as np
import pytest

from ebmctl.data.drawn import render
from ebmctl.data.drawn.render import SOLIDS, Scenes

SIZE = 48
BODY, PAINT, GROUND = (0.9, 0.2, 0.1), (0.97, 0.97, 0.97), (0.3, 0.4, 0.6)


def scene(solid: int, **changes) -> Scenes:
    values = {
        "size": 1.1, "place": (0.4, -0.2), "facing": 1.3, "sun": 1.1, "height": 0.8, "body": BODY, "paint": PAINT,
        "ground": GROUND, "pitch": 0.55, "zoom": 2.7, **changes,
    }  # fmt: skip
    fields = {name: np.array([value], np.float32) for name, value in values.items()}
    return Scenes(solid=np.array([solid]), **fields)


def outside(solid: int, facing: float, p: np.ndarray) -> np.ndarray:
    """Below 0 in the solid of size 1 at the origin, for points (..., 3)."""
    x, y, z = np.moveaxis(p, -1, 0)
    height, radius = render._SOLIDS[solid].height, np.hypot(x, y)
    if SOLIDS[solid] == "cube":
        angle = np.arctan2(y, x) - facing  # its edges look to where the painted half does
        side = np.maximum(np.abs(radius * np.cos(angle + np.pi / 4)), np.abs(radius * np.sin(angle + np.pi / 4)))
        return np.maximum(side - height / 2, np.abs(z - height / 2) - height / 2)
    if SOLIDS[solid] == "sphere":
        return np.sqrt(x**2 + y**2 + (z - 1) ** 2) - 1
    reach = 0.88 if SOLIDS[solid] == "cylinder" else 1.12 * (1 - z / height)
    slant = 1 if SOLIDS[solid] == "cylinder" else np.hypot(1, 1.12 / height)
    return np.maximum((radius - reach) / slant, np.abs(z - height / 2) - height / 2)


def march(solid: int, facing: float, origin: np.ndarray, direction: np.ndarray, reach: float) -> np.ndarray:
    """How far rays (..., 3) go until they are in the solid; infinite where they never are."""
    steps = np.arange(0, reach, 0.02)
    depth = np.full(origin.shape[:-1], np.inf)
    for step in steps[::-1]:
        depth[outside(solid, facing, origin + step * direction) < 0] = step
    return depth


def reference(s: Scenes) -> np.ndarray:
    """The picture (SIZE, SIZE, 3) by its definition, with one ray for each pixel."""
    solid, facing, size = int(s.solid[0]), float(s.facing[0]), float(s.size[0])
    sun = np.array(
        [np.sin(s.sun[0]) * np.cos(s.height[0]), -np.cos(s.sun[0]) * np.cos(s.height[0]), np.sin(s.height[0])]
    )
    shift, pitch = np.array([*s.place[0], 0.0]), float(s.pitch[0])
    eye = np.array([0, -9 * np.cos(pitch), 0.65 + 9 * np.sin(pitch)])
    across = (np.arange(SIZE) + 0.5) / SIZE * 2 - 1
    right, up = np.meshgrid(across * s.zoom[0] / 9, -across * s.zoom[0] / 9)
    forward, above = np.array([0, np.cos(pitch), -np.sin(pitch)]), np.array([0, np.sin(pitch), np.cos(pitch)])
    ray = forward + right[..., None] * [1, 0, 0] + up[..., None] * above
    ground = eye - ray * (eye[2] / ray[..., 2:])
    dark = np.isfinite(march(solid, facing, (ground - shift) / size, np.broadcast_to(sun, ray.shape), 6))
    fade = np.clip(1.04 - 0.035 * ground[..., 1], 0.6, 1.2)
    light = np.where(dark, 0.44, 0.44 + 0.64 * sun[2]) * fade
    picture = light[..., None] * GROUND

    start = eye + 6 * ray
    depth = march(solid, facing, (start - shift) / size, ray, 7)
    met = (start - shift) / size + np.where(np.isfinite(depth), depth, 0)[..., None] * ray
    gradient = np.stack([(outside(solid, facing, met + 1e-4 * e) - outside(solid, facing, met)) for e in np.eye(3)], -1)
    normal = gradient / np.linalg.norm(gradient, axis=-1, keepdims=True)
    light = 0.36 + 0.08 * normal[..., 2] + 0.64 * np.maximum(normal @ sun, 0)
    towards = np.array([np.sin(facing), -np.cos(facing)])
    color = np.where(((met[..., :2] @ towards) > 0)[..., None], s.paint[0], s.body[0])
    return np.where(np.isfinite(depth)[..., None], light[..., None] * color, picture).clip(0, 1)


@pytest.mark.parametrize("solid", range(4), ids=SOLIDS)
@pytest.mark.parametrize("sun", [-1.8, 0.9])
def test_picture_is_that_of_the_definition(solid, sun, monkeypatch):
    monkeypatch.setattr(render, "SAMPLES", 1)
    made = render.render(scene(solid, sun=sun), SIZE)[0] / 255
    error = np.abs(made - reference(scene(solid, sun=sun))).max(-1)
    assert np.median(error) < 0.003
    assert (error > 0.05).mean() < 0.006  # a few pixels at the edges


@pytest.mark.parametrize("solid", range(4), ids=SOLIDS)
@pytest.mark.parametrize("side", [-1, 1])
def test_shadow_falls_away_from_the_sun_and_the_bright_side_looks_to_it(solid, side):
    one = scene(solid, sun=side * 1.4, place=(0, 0), paint=(1, 1, 1), body=(1, 1, 1))
    lit, black, bare = (
        render.render(s, SIZE)[0].astype(float).mean(-1)
        for s in (one, one._replace(paint=one.paint * 0, body=one.body * 0), scene(solid, size=1e-4, sun=side * 1.4))
    )
    mask, shadow = black < 1, bare - lit > 25
    columns = np.arange(SIZE) - (SIZE - 1) / 2
    assert shadow.sum() > 20
    assert -side * np.nonzero(shadow)[1].mean() + side * (SIZE - 1) / 2 > 5
    left, right = (lit[mask & (columns * s > 0)[None]].mean() for s in (-1, 1))
    assert side * (right - left) > 20


def test_a_scene_does_not_depend_on_its_batch():
    alone = [scene(i % 4, sun=0.7 + i / 50, size=0.7 + i / 150, facing=i / 9) for i in range(90)]
    together = Scenes(*(np.concatenate(field) for field in zip(*alone, strict=True)))
    made = render.render(together, 32)
    assert made.shape == (90, 32, 32, 3)
    for i, one in enumerate(alone):
        assert np.array_equal(render.render(one, 32)[0], made[i])
