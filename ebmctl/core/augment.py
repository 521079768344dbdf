"""The data augmentation of chains (paper, 2.3): a batch at once, on its device, each image with its own draw."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ebmctl.core.config import AugmentConfig

LUMA = (0.299, 0.587, 0.114)
YIQ = (LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


def augmentation(config: AugmentConfig, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """The augmentation of chains: `augment` with its settings and its generator bound."""
    return functools.partial(augment, config=config, generator=generator)


def augment(x: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Augment images (B, C, H, W) in [0, 1]; the result has the same shape and range."""
    if not config.enabled:
        return x
    if config.crop < 1 or config.flip > 0:
        x = crop_and_flip(x, config.crop, config.flip, generator)
    if config.color > 0:
        x = distort_color(x, config.color, config.color_probability, generator)
    if config.grey > 0 and x.shape[1] == 3:
        x = lose_color(x, config.grey, generator)
    if config.blur > 0:
        x = blur(x, config.blur, generator)
    return x


def _uniform(low: float, high: float, shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, device=like.device, dtype=like.dtype)


def _happens(probability: float, x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(x), generator=generator, device=x.device) < probability


@functools.lru_cache
@torch.inference_mode(False)
def _constant(values: tuple[object, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A constant on a device, made once: every copy from the host would wait for what the device has to do."""
    return torch.tensor(values, device=device, dtype=dtype)


@functools.lru_cache
@torch.inference_mode(False)
def _from_yiq(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix (3, 3) from YIQ to RGB, inverted once: an inversion waits for its result."""
    inverse: Tensor = torch.linalg.inv(_constant(YIQ, device, dtype))
    return inverse


def draw_crops(x: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Random crops (B, 4) as centre x, centre y, width, height in shares of the image.

    Area uniform in [smallest, 1], aspect ratio log-uniform in [3/4, 4/3]; of ten draws the first that fits inside the
    image, else the whole image (the distribution of torchvision's RandomResizedCrop, for square images).
    """
    shape = (len(x), 10)
    area = _uniform(smallest, 1.0, shape, x, generator)
    ratio = _uniform(-math.log(4 / 3), math.log(4 / 3), shape, x, generator).exp()
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.float().argmax(1, keepdim=True)
    size = torch.stack([width.gather(1, first), height.gather(1, first)], dim=2)[:, 0]  # (B, 2)
    size = torch.where(fits.any(1, keepdim=True), size, torch.ones_like(size))
    corner = torch.rand(size.shape, generator=generator, device=x.device, dtype=x.dtype) * (1 - size)
    return torch.cat([corner + size / 2, size], dim=1)


def crop_and_flip(x: Tensor, smallest: float, flip: float, generator: torch.Generator) -> Tensor:
    """Crop each image, resize the crop to the full size (bilinear), and flip it left to right, in one resampling."""
    whole = _constant((0.5, 0.5, 1.0, 1.0), x.device, x.dtype).expand(len(x), 4)
    crops = draw_crops(x, smallest, generator) if smallest < 1 else whole
    sign = 1 - 2 * _happens(flip, x, generator).to(x.dtype)
    zero = torch.zeros_like(sign)
    across = torch.stack([crops[:, 2] * sign, zero, 2 * crops[:, 0] - 1], dim=1)
    down = torch.stack([zero, crops[:, 3], 2 * crops[:, 1] - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False).clamp_(0, 1)


def distort_color(x: Tensor, strength: float, probability: float, generator: torch.Generator) -> Tensor:
    """SimCLR's jitter of brightness, contrast, saturation (0.8 * strength each) and hue (0.4 * strength).

    All four are linear in the colour here, so they are one 3x3 matrix and one offset an image. (Deviations: in this
    order, not in a random one; the hue turns in the YIQ plane, not in HSV; clamped once, at the end.) Images of one
    channel have brightness and contrast only.
    """
    factor = _uniform(max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength, (3, len(x), 1, 1), x, generator)
    turn = _uniform(-0.4 * strength, 0.4 * strength, (len(x),), x, generator) * 2 * math.pi
    happens = _happens(probability, x, generator)
    factor = torch.where(happens[:, None, None], factor, torch.ones_like(factor))
    brightness, contrast, saturation = factor  # each (B, 1, 1)
    pixels = x.flatten(2)  # (B, C, HW)
    mean = pixels.mean(2, keepdim=True)
    if x.shape[1] != 3:
        offset = (1 - contrast) * brightness * mean.mean(1, keepdim=True)
        return torch.addcmul(offset, pixels, contrast * brightness).clamp_(0, 1).view_as(x)
    luma = _constant((LUMA,), x.device, x.dtype)  # (1, 3)
    offset = (1 - contrast) * brightness * (luma @ mean)  # grey, which saturation and hue leave as it is
    desaturated = torch.eye(3, device=x.device, dtype=x.dtype) * saturation + (1 - saturation) * luma
    matrix = hue_rotation(turn * happens, x) @ desaturated * (contrast * brightness)
    return torch.baddbmm(offset.expand(-1, 3, 1), matrix, pixels).clamp_(0, 1).view_as(x)


def hue_rotation(angle: Tensor, like: Tensor) -> Tensor:
    """Matrices (B, 3, 3) that turn the chroma of RGB colours by an angle and keep the luma (in YIQ)."""
    to_yiq = _constant(YIQ, like.device, like.dtype)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.zeros(len(angle), 3, 3, device=like.device, dtype=like.dtype)
    turn[:, 0, 0].fill_(1)  # an assignment would make a tensor of the number, on the host
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    result: Tensor = _from_yiq(like.device, like.dtype) @ turn @ to_yiq
    return result


def lose_color(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Replace the three channels by their luma, with the probability given."""
    grey = (_constant(LUMA, x.device, x.dtype)[:, None, None] * x).sum(1, keepdim=True)
    return torch.where(_happens(probability, x, generator)[:, None, None, None], grey, x)


def blur(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur with a kernel of 5 pixels and sigma uniform in [0.1, 2], with the probability given."""
    sigma = _uniform(0.1, 2.0, (len(x), 1), x, generator)
    kernel = torch.exp(-(torch.arange(-2, 3, device=x.device, dtype=x.dtype) ** 2) / (2 * sigma**2))
    identity = _constant((0.0, 0.0, 1.0, 0.0, 0.0), x.device, x.dtype)
    kernel = torch.where(_happens(probability, x, generator)[:, None], kernel, identity)
    kernel = (kernel / kernel.sum(1, keepdim=True)).T[:, :, None, None, None]  # (5, B, 1, 1, 1)
    height, width = x.shape[2:]
    padded = F.pad(x, (2, 2, 2, 2), mode="reflect")
    rows = torch.stack([kernel[i] * padded[:, :, i : i + height] for i in range(5)]).sum(0)
    columns = torch.stack([kernel[i] * rows[:, :, :, i : i + width] for i in range(5)]).sum(0)
    return columns.clamp_(0, 1)
