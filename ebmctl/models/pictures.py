"""Pictures of images: grids as PNG, chains as GIF."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from PIL import Image, PngImagePlugin
from torch import Tensor
from torchvision.utils import make_grid

from ebmctl.core.buffer import quantize
from ebmctl.files import atomic_file


def grid(images: Tensor, zoom: int | None = None, columns: int | None = None) -> Image.Image:
    """Images (B, C, H, W) in [0, 1] as one square-like picture, enlarged without smoothing up to about 64 pixels.

    `zoom` and `columns` say otherwise.
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    height, width = images.shape[2:]
    zoom = zoom or max(1, 64 // max(height, width))
    pixels = quantize(make_grid(images, nrow=columns, padding=1, pad_value=0.5)).permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(pixels)
    return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)


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
