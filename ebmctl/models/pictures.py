"""Pictures of images: grids as PNG, chains as GIF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from PIL import Image, PngImagePlugin
from torch import Tensor
from torchvision.utils import make_grid

from ebmctl.core.buffer import quantize
from ebmctl.files import atomic_file

MOST_PIXELS = 89_478_485  # above which Pillow, opening a picture, warns of a decompression bomb
FRAMES_PIXELS = 4 * MOST_PIXELS  # of all frames of an animation together: 1 GB while it is written
GREY = 128  # between the images


def grid(images: Tensor, zoom: int | None = None, columns: int | None = None) -> Image.Image:
    """Images (B, C, H, W), uint8 or in [0, 1], as one square-like picture.

    It is enlarged without smoothing up to about 64 pixels an image; `zoom` and `columns` say otherwise.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    height, width = images.shape[2:]
    zoom = zoom or _zoom(height, width)
    whole = images if images.dtype == torch.uint8 else quantize(images)
    pixels = make_grid(whole.cpu(), nrow=columns, padding=1, pad_value=GREY).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


def most_images(height: int, width: int, frames: int = 1) -> int:
    """How many images a grid holds that programs still open (`MOST_PIXELS`), or each grid of an animation."""
    pixels = MOST_PIXELS if frames == 1 else min(MOST_PIXELS, FRAMES_PIXELS // frames)
    side = math.isqrt(pixels) // _zoom(height, width)
    return max(1, ((side - 1) // (max(height, width) + 1)) ** 2)


def _zoom(height: int, width: int) -> int:
    return max(1, 64 // max(height, width))


def save_grid(path: Path, images: Tensor, text: Mapping[str, str] | None = None) -> None:
    """Write a grid; a PNG carries `text` as metadata."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    with atomic_file(path) as temporary:
        picture = grid(images).convert("RGB")
        if path.suffix.lower() == ".png":
            picture.save(temporary, pnginfo=info)
        else:
            picture.save(temporary)


def save_gif(path: Path, frames: Sequence[Tensor], milliseconds: int = 120) -> None:
    """Write grids of images (B, C, H, W) as an animation that rests on its last frame."""
    with atomic_file(path) as temporary:
        write_gif(temporary, frames, milliseconds)


def write_gif(target: Path | BinaryIO, frames: Sequence[Tensor], milliseconds: int, zoom: int | None = None) -> None:
    """The same into an open file, or not whole or not at all."""
    pictures = [grid(frame, zoom) for frame in frames]
    times = [milliseconds] * (len(pictures) - 1) + [2000]
    pictures[0].save(target, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
