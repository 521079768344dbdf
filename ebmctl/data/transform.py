"""Any picture as square uint8 pixels, and those as floats in [0, 1]."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional as F

from ebmctl.core.augment import LUMA


def to_pixels(picture: Image.Image, size: int, channels: int) -> Tensor:
    """A PIL image of any size and mode as (channels, size, size), uint8.

    Turned as its EXIF orientation says, its shorter side resized to `size` (antialiased), and cropped at the centre;
    transparency lies over white, and 16-bit grey is scaled to 8 bits.
    """
    picture = ImageOps.fit(_eight_bits(ImageOps.exif_transpose(picture)), (size, size), Image.Resampling.BILINEAR)
    array = np.array(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return torch.from_numpy(array).view(size, size, channels).permute(2, 0, 1).contiguous()


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        scale = 1.0 if picture.mode == "F" and values.max(initial=0) <= 255 else 1 / 257
        return Image.fromarray((values * scale).round().clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")


def fit_pixels(images: Tensor, size: int, channels: int) -> Tensor:
    """Square images (N, C, H, H), uint8, at another size (antialiased) and number of channels, uint8."""
    if images.shape[1] != channels:
        if channels == 3:
            images = images.expand(-1, 3, -1, -1)
        else:
            luma = torch.tensor(LUMA).view(1, 3, 1, 1)
            images = torch.cat(
                [(part * luma).sum(1, keepdim=True).round().byte() for part in torch.split(images, 4096)]
            )
    if images.shape[2] != size:
        images = torch.cat([_resize(part, size) for part in torch.split(images, 4096)])
    return images.contiguous()


def _resize(images: Tensor, size: int) -> Tensor:
    resized = F.interpolate(images.float(), size=(size, size), mode="bilinear", antialias=True)
    return resized.round_().clamp_(0, 255).byte()


def to_float(images: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 images as floats in [0, 1]; with a generator dequantised: x * 255/256 plus uniform noise of one level."""
    if generator is None:
        return images.float().div_(255)
    noise = torch.rand(images.shape, generator=generator, device=images.device)
    return noise.add_(images).div_(256)
