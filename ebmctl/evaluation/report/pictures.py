"""Pictures within a page, as data addresses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ebmctl.evaluation.curves import DARK, LIGHT, about, png, title
from ebmctl.models.metrics import Group
from ebmctl.models.pictures import grid, write_gif

FRAMES, MILLISECONDS = 24, 140  # of an animation
MOMENTS, ROWS = 6, 4  # of chains at rest
PIXELS = 16 * 32 * 32  # of a frame: the animation of 16 small chains, or of fewer large ones
SMALL = 300  # pixels of width: such a picture is enlarged without smoothing


@dataclass(frozen=True)
class Picture:
    """A picture with its size in pixels and what it shows."""

    source: str
    width: int
    height: int
    alt: str

    @property
    def small(self) -> bool:
        """Whether it will be enlarged."""
        return self.width <= SMALL


@dataclass(frozen=True)
class Chart:
    """Curves of the training, drawn for a light and for a dark page."""

    title: str
    light: Picture
    dark: Picture


def picture_of(images: Tensor, alt: str, columns: int | None = None) -> Picture:
    """Images (B, C, H, W) in [0, 1] in a grid, a value a pixel, without loss."""
    drawn = grid(images, 1, columns).convert("L" if images.shape[1] == 1 else "RGB")
    stream = io.BytesIO()
    drawn.save(stream, "PNG", optimize=True)
    return Picture(_address("png", stream.getvalue()), drawn.width, drawn.height, alt)


def animation_of(frames: Sequence[Tensor], alt: str) -> Picture:
    """Chains, each frame (B, C, H, W) in [0, 1], as a GIF that rests on the last."""
    stream = io.BytesIO()
    write_gif(stream, some(frames, FRAMES), MILLISECONDS, zoom=1)
    width, height = Image.open(stream).size
    return Picture(_address("gif", stream.getvalue()), width, height, alt)


def still_of(frames: Sequence[Tensor], alt: str) -> Picture:
    """The first chains of an animation at rest: a row each, from the first moment to the last."""
    moments = some(frames, MOMENTS)
    rows = min(ROWS, len(moments[0]))
    return picture_of(torch.stack([frame[row] for row in range(rows) for frame in moments]), alt, len(moments))


def chart_of(group: Group) -> Chart:
    """A picture of curves; raises EbmctlError that says how to get matplotlib."""
    light, dark = (_picture(png(group, look, titled=False), about(group)) for look in (LIGHT, DARK))
    return Chart(title(group), light, dark)


def picture_in(path: Path, alt: str) -> Picture:
    """A PNG file as it is."""
    return _picture(path.read_bytes(), alt)


def chains_shown(height: int, width: int) -> int:
    """How many chains an animation has room for."""
    return max(1, min(16, PIXELS // (height * width)))


def some(frames: Sequence[Tensor], count: int) -> list[Tensor]:
    """`count` frames at most, evenly spread, the first and the last among them."""
    last = len(frames) - 1
    places = dict.fromkeys(round(last * part / (count - 1)) for part in range(count))
    return [frames[place] for place in places]


def _picture(content: bytes, alt: str) -> Picture:
    """A PNG as it is."""
    with Image.open(io.BytesIO(content)) as image:
        width, height = image.size
    return Picture(_address("png", content), width, height, alt)


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
