from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as TF

from ebmctl.core import augment
from ebmctl.core.config import AugmentConfig
from tests.device import seeded


@pytest.fixture
def images(generator):
    return torch.rand(16, 3, 32, 32, generator=generator)


def test_crop_and_flip_against_torchvision(images, monkeypatch, generator):
    boxes = torch.tensor(
        [[0, 0, 32, 32], [4, 8, 20, 16], [10, 3, 9, 27], [31, 31, 1, 1]] * 4
    )  # top, left, height, width
    top, left, height, width = boxes.float().T / 32
    crops = torch.stack([left + width / 2, top + height / 2, width, height], dim=1)
    monkeypatch.setattr(augment, "draw_crops", lambda *_: crops)
    for flip in (0.0, 1.0):
        ours = augment.crop_and_flip(images, 0.5, flip, generator)
        for image, result, (t, le, h, w) in zip(images, ours, boxes.tolist(), strict=True):
            expected = TF.resized_crop(image, t, le, h, w, [32, 32], antialias=False)
            expected = expected.flip(2) if flip else expected
            inner = slice(None) if min(h, w) == 32 else slice(16 // min(h, w) + 1, -(16 // min(h, w) + 1))
            # at a crop's border torchvision repeats its edge, and we look beyond it into the image
            assert torch.allclose(result[:, inner, inner], expected[:, inner, inner], atol=2e-3)


def test_crops_have_torchvisions_distribution(generator):
    ours = augment.draw_crops(torch.zeros(4000, 3, 32, 32), 0.08, generator)
    area, ratio = ours[:, 2] * ours[:, 3], ours[:, 2] / ours[:, 3]
    torch.manual_seed(0)
    blank = torch.zeros(3, 1000, 1000)
    theirs = torch.tensor([RandomResizedCrop.get_params(blank, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    their_area = theirs[:, 2] * theirs[:, 3] / 1e6
    their_ratio = theirs[:, 3] / theirs[:, 2]
    at = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9])
    assert torch.allclose(area.quantile(at), their_area.float().quantile(at), atol=0.03)
    assert torch.allclose(ratio.quantile(at), their_ratio.float().quantile(at), atol=0.03)
    low, high = ours[:, :2] - ours[:, 2:] / 2, ours[:, :2] + ours[:, 2:] / 2
    assert low.min() >= -1e-6
    assert high.max() <= 1 + 1e-6
    room = ours[:, 2:].amax(1) < 0.95
    share = (low / (1 - ours[:, 2:]))[room]  # of the room that is left, on the left side and above
    assert torch.allclose(share.quantile(at, dim=0), at[:, None].expand(5, 2), atol=0.04)  # anywhere inside
    assert abs(float(torch.corrcoef(share.T)[0, 1])) < 0.1


def test_where_no_draw_fits_a_crop_is_the_whole_image(generator):
    """Area a fits where the ratio is within [a, 1/a]: with probability -ln a / ln(4/3), on average 0.0174 here."""
    crops = augment.draw_crops(torch.zeros(4000, 1, 2, 2), 0.99, generator)
    whole = (crops == torch.tensor([0.5, 0.5, 1.0, 1.0])).all(1)
    assert abs(float(whole.float().mean()) - (1 - 0.01745) ** 10) < 0.03  # 5 standard deviations
    assert crops[~whole, 2:].prod(1).min() >= 0.99 - 1e-6


def test_crops_bring_no_border_in(generator):
    """Crops that touch the image's edge repeat it: an image of one colour stays as it is."""
    x = torch.full((200, 1, 8, 8), 0.9)
    assert torch.allclose(augment.crop_and_flip(x, 0.08, 0.5, generator), x, atol=1e-5)


def fixed_uniform(monkeypatch, factors, turn):
    """Make the colour distortion draw these factors (brightness, contrast, saturation) and this hue turn."""
    draws = iter([torch.tensor(factors).view(3, 1, 1, 1), torch.tensor([turn])])
    monkeypatch.setattr(augment, "_uniform", lambda *_: next(draws))


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        ((0.6, 1.0, 1.0), lambda x: TF.adjust_brightness(x, 0.6)),
        ((1.0, 0.5, 1.0), lambda x: TF.adjust_contrast(x, 0.5)),
        ((1.0, 1.0, 0.3), lambda x: TF.adjust_saturation(x, 0.3)),
        (
            (0.8, 0.7, 0.4),
            lambda x: TF.adjust_saturation(TF.adjust_contrast(TF.adjust_brightness(x, 0.8), 0.7), 0.4),
        ),
    ],
)
def test_color_against_torchvision(images, generator, monkeypatch, factors, expected):
    fixed_uniform(monkeypatch, factors, 0.0)
    ours = augment.distort_color(images[:1], 1.0, 1.0, generator)
    assert torch.allclose(ours, expected(images[:1]), atol=2e-3)


def test_hue_turns_keep_luma_and_grey_and_compose(images):
    luma = torch.tensor(augment.LUMA)
    angles = torch.tensor([0.3, math.pi, -1.0])
    matrices = augment.hue_rotation(angles, images)
    assert torch.allclose(luma @ matrices, luma.expand(3, 3), atol=1e-5)
    assert torch.allclose(matrices.sum(2), torch.ones(3, 3), atol=1e-3)
    there_and_back = augment.hue_rotation(-angles, images) @ matrices
    assert torch.allclose(there_and_back, torch.eye(3).expand(3, 3, 3), atol=1e-5)
    red_by_a_third = augment.hue_rotation(torch.tensor([2 * math.pi / 3]), images)[0] @ torch.tensor([1.0, 0, 0])
    assert red_by_a_third.argmax() != 0


def test_color_is_left_alone_as_often_as_it_says(images, generator):
    """Brightness, contrast, saturation and hue all of them, or none."""
    assert torch.allclose(augment.distort_color(images, 1.0, 0.0, generator), images, atol=1e-4)
    many = images[:1, :, :4, :4].expand(2000, -1, -1, -1)
    same = (augment.distort_color(many, 1.0, 0.3, generator) - many).flatten(1).abs().amax(1) < 1e-4
    assert abs(float(same.float().mean()) - 0.7) < 0.05  # 5 standard deviations


def test_color_has_simclrs_strengths(generator):
    """Strength s draws brightness, contrast and saturation from 1 +- 0.8 s and turns the hue by up to 0.4 s circles.

    All four can be read off an image of two greys and a weak colour of the luma between.
    """
    strength, count = 0.5, 4000
    to_yiq = torch.tensor([augment.LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])
    color = torch.linalg.inv(to_yiq) @ torch.tensor([0.5, 0.03, 0.0])
    image = torch.stack([torch.full((3,), 0.45), torch.full((3,), 0.55), color], dim=1)[:, None]  # (3, 1, 3)
    result = augment.distort_color(image.expand(count, 3, 1, 3), strength, 1.0, generator)[:, :, 0]
    luma, i, q = (to_yiq @ result).unbind(1)  # (B, 3) each
    brightness = luma[:, :2].mean(1) / 0.5
    contrast = (luma[:, 1] - luma[:, 0]) / 0.1 / brightness
    saturation = torch.hypot(i, q)[:, 2] / 0.03 / contrast / brightness
    turn = torch.atan2(q, i)[:, 2] / (2 * math.pi)
    at = torch.tensor([0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999])
    for factor in (brightness, contrast, saturation):
        assert torch.allclose(factor.quantile(at), 0.6 + 0.8 * at, atol=0.03)
    assert torch.allclose(turn.quantile(at), -0.2 + 0.4 * at, atol=0.015)
    assert torch.corrcoef(torch.stack([brightness, contrast, saturation, turn])).sub(torch.eye(4)).abs().max() < 0.1


def test_grey_against_torchvision(images, generator):
    ours = augment.lose_color(images, 1.0, generator)
    assert torch.allclose(ours, TF.rgb_to_grayscale(images, 3), atol=2e-3)


def test_blur_against_torchvision(images, generator, monkeypatch):
    sigma = torch.linspace(0.1, 2.0, len(images))[:, None]
    monkeypatch.setattr(augment, "_uniform", lambda *_: sigma)
    ours = augment.blur(images, 1.0, generator)
    for image, result, s in zip(images, ours, sigma.flatten().tolist(), strict=True):
        assert torch.allclose(result, TF.gaussian_blur(image, [5, 5], [s, s]), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("part", ["crop", "flip", "color", "grey", "blur"])
def test_each_image_has_its_own_draw(channels, part):
    """Thirty-two equal images become different ones, in range, and the same for the same seed."""
    off = {"crop": 1.0, "flip": 0.0, "color": 0.0, "grey": 0.0, "blur": 0.0}
    on = {"crop": 0.1, "flip": 0.5, "color": 1.0, "grey": 0.5, "blur": 0.5}
    config = AugmentConfig(**{**off, part: on[part]})
    x = torch.rand(1, channels, 16, 16, generator=seeded(1)).expand(32, -1, -1, -1)
    results = [augment.augment(x, config, seeded(s)) for s in (5, 5, 6)]
    assert torch.equal(results[0], results[1])
    assert results[0].shape == x.shape
    assert 0 <= results[0].min() <= results[0].max() <= 1
    distinct = len({r.cpu().numpy().tobytes() for r in results[0]})
    if part == "grey" and channels == 1:
        assert torch.equal(results[0], x)
        return
    assert distinct >= (2 if part in ("flip", "grey") else 10)
    assert not torch.equal(results[0], results[2])


def test_one_channel_has_brightness_and_contrast(generator, monkeypatch):
    x = torch.rand(1, 1, 8, 8, generator=generator)
    fixed_uniform(monkeypatch, (0.8, 0.7, 0.1), 1.0)
    ours = augment.distort_color(x, 1.0, 1.0, generator)
    expected = TF.adjust_contrast(TF.adjust_brightness(x, 0.8), 0.7)
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "never", "always"),
    [
        ({"flip": 1.0}, {"flip": 0.0}, lambda x: x.flip(3)),
        ({"color": 1.0, "color_probability": 0.0}, {"color": 0.0}, lambda x: x),
        ({"grey": 1.0}, {"grey": 0.0}, lambda x: TF.rgb_to_grayscale(x, 3)),
    ],
)
def test_each_probability_is_the_setting_of_its_name(images, generator, part, never, always):
    off = {"crop": 1.0, "flip": 0.0, "color": 0.0, "grey": 0.0}
    changed = augment.augment(images, AugmentConfig(**{**off, **part}), generator)
    assert torch.allclose(changed, always(images), atol=2e-3)
    assert torch.equal(augment.augment(images, AugmentConfig(**{**off, **never}), generator), images)


def test_switched_off(images, generator):
    assert augment.augment(images, AugmentConfig(enabled=False), generator) is images
    off = AugmentConfig(crop=1.0, flip=0.0, color=0.0, grey=0.0)
    assert augment.augment(images, off, generator) is images


@pytest.mark.parametrize("values", [{"crop": 0.0}, {"crop": 1.5}, {"flip": -0.1}, {"color": 2.0}, {"blur": 1.1}])
def test_settings_are_checked(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        AugmentConfig(**values)


def test_constants_made_without_gradients_serve_with_them(images, generator):
    """They are kept from call to call; a tensor of inference mode could not be saved for a backward pass."""
    augment._constant.cache_clear()
    augment._from_yiq.cache_clear()
    config = AugmentConfig()
    with torch.inference_mode():
        augment.augment(images, config, generator)
    x = images.clone().requires_grad_()
    augment.augment(x, config, generator).sum().backward()
    assert x.grad.isfinite().all()
