"""Folders of images, good and bad, and the order in which data is read."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ebmctl.data import lazy
from ebmctl.data.base import DataRequest, TensorImages
from ebmctl.data.folder import make_folder
from ebmctl.data.loader import batches
from ebmctl.data.order import IndexOrder
from ebmctl.data.transform import fit_pixels, to_float
from ebmctl.errors import EbmctlError


def folder(path: Path, split: str = "train", size: int = 8, channels: int = 3):
    return make_folder(path, DataRequest(split, path, size, channels))


def picture(path: Path, level: int = 100, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def test_missing_empty_and_imageless(tmp_path):
    with pytest.raises(EbmctlError, match="there is no folder"):
        folder(tmp_path / "none")
    with pytest.raises(EbmctlError, match="is not a folder"):
        folder(picture(tmp_path / "a" / "x.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(EbmctlError, match="is empty"):
        folder(tmp_path / "empty")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "readme.txt").write_text("no image")
    with pytest.raises(EbmctlError, match="contains no images"):
        folder(tmp_path / "text")


def test_corrupt_images_are_skipped_counted_and_named(tmp_path, caplog):
    picture(tmp_path / "test" / "x.png")
    for i in range(120):
        picture(tmp_path / "train" / f"{i:03d}.png")
    whole = picture(tmp_path / "big.png", size=(64, 64)).read_bytes()
    (tmp_path / "train" / "truncated.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        found = folder(tmp_path)
    assert len(found) == 120
    assert "skipped 1 of 121 images that can't be read: truncated.png" in caplog.text
    (tmp_path / "train" / "another.jpg").write_bytes(b"not an image")
    with pytest.raises(
        EbmctlError, match=r"2 of 122 images can't be read, more than 1 %: another\.jpg, truncated\.png"
    ):
        folder(tmp_path)


def mode_pictures() -> dict[str, tuple[Image.Image, tuple[int, int, int]]]:
    palette = Image.new("RGB", (8, 8), (0, 128, 255)).quantize(4)
    palette_clear = palette.copy()
    palette_clear.info["transparency"] = palette.getpixel((0, 0))
    deep = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    return {
        "grey.png": (Image.new("L", (8, 8), 77), (77, 77, 77)),
        "bit.png": (Image.new("1", (8, 8), 1), (255, 255, 255)),
        "palette.png": (palette, (0, 128, 255)),
        "alpha.png": (Image.new("RGBA", (8, 8), (200, 0, 0, 0)), (255, 255, 255)),
        "half.png": (Image.new("RGBA", (8, 8), (200, 0, 0, 128)), (227, 127, 127)),
        "grey_alpha.png": (Image.new("LA", (8, 8), (0, 0)), (255, 255, 255)),
        "clear.gif": (palette_clear, (255, 255, 255)),
        "deep.png": (deep, (128, 128, 128)),
        "deep.tiff": (deep, (128, 128, 128)),
        "cmyk.jpg": (Image.new("CMYK", (8, 8), (0, 0, 0, 0)), (255, 255, 255)),
        "float.tiff": (Image.fromarray(np.full((8, 8), 50.0, np.float32)), (50, 50, 50)),
    }


@pytest.mark.parametrize("name", list(mode_pictures()))
def test_modes(tmp_path, name):
    image, expected = mode_pictures()[name]
    options = {"transparency": image.info["transparency"]} if name == "clear.gif" else {}
    image.save(tmp_path / name, **options)
    pixels = folder(tmp_path).__getitems__([0]).images[0]
    assert pixels.shape == (3, 8, 8)
    assert (pixels.flatten(1).float().mean(1) - torch.tensor(expected)).abs().max() <= 3, name
    assert pixels.flatten(1).float().std(1).max() < 1
    assert folder(tmp_path, channels=1).__getitems__([0]).images.shape == (1, 1, 8, 8)


def test_sizes_are_cropped_at_the_centre_and_turned(tmp_path):
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert (folder(tmp_path).__getitems__([0]).images[..., 1:-1] == 200).all()  # the border is antialiased
    (tmp_path / "wide.png").unlink()
    tall = np.zeros((8, 8, 3), np.uint8)
    tall[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(tall).save(tmp_path / "turned.png", exif=exif)
    pixels = folder(tmp_path).__getitems__([0]).images[0]
    assert pixels[:, :4].max() == 0
    assert pixels[:, 4:].min() == 255


def test_labels_and_splits(tmp_path):
    for kind in ("cats", "dogs"):
        for i in range(10):
            picture(tmp_path / "a" / kind / "more" / f"{i}.png", level=i)
    found, held_out = folder(tmp_path / "a"), folder(tmp_path / "a", "test")
    assert (len(found), len(held_out), found.label_names) == (18, 2, ("cats", "dogs"))
    levels = [d.__getitems__(range(len(d))).images[:, 0, 0, 0].tolist() for d in (found, held_out)]
    assert sorted(levels[0] + levels[1]) == sorted([*range(10), *range(10)])
    picture(tmp_path / "a" / "stray.png")
    assert folder(tmp_path / "a").label_names == ()
    for split, count in (("train", 3), ("test", 2)):
        for i in range(count):
            picture(tmp_path / "b" / split / f"{i}.png")
    assert [len(folder(tmp_path / "b", s)) for s in ("train", "test")] == [3, 2]


def test_links_are_followed_and_do_not_hang(tmp_path):
    picture(tmp_path / "elsewhere" / "x.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "round").symlink_to(tmp_path / "here")
    assert len(folder(tmp_path / "here")) == 1


def test_what_is_no_image_file_is_not_opened(tmp_path):
    """A pipe would be waited for, and for an EPS Pillow starts Ghostscript."""
    for i in range(150):
        picture(tmp_path / f"{i:03d}.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert len(folder(tmp_path)) == 135
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    (tmp_path / "postscript.png").write_bytes(postscript)
    assert (
        lazy.LazyImages(
            ["x"],
            lazy.FileReader([tmp_path / "postscript.png"]),
            torch.zeros(1, 0),
            [],
            DataRequest("train", tmp_path, 8, 3),
        ).pixels(0)
        is None
    )


def test_an_error_in_a_worker_is_one_line(tmp_path):
    class Broken(TensorImages):
        def __getitems__(self, indices):
            raise EbmctlError("one line")

    source = batches(Broken(torch.zeros(4, 1, 2, 2, dtype=torch.uint8)), IndexOrder(4, 2, 0), 0, workers=1)
    with pytest.raises(EbmctlError, match=r"^one line$"):
        next(source)


def test_control_characters_in_names_are_not_printed(tmp_path, caplog):
    picture(tmp_path / "test" / "x.png")
    for i in range(150):
        picture(tmp_path / "train" / f"{i:03d}.png")
    (tmp_path / "train" / "a\x1b[31m\n.png").write_bytes(b"bad")
    with caplog.at_level(logging.WARNING):
        folder(tmp_path)
    assert "\x1b" not in caplog.text
    assert "a?[31m?.png" in caplog.text


def test_large_folders_stay_on_disk(tmp_path, monkeypatch):
    for i in range(4):
        picture(tmp_path / f"{i}.png", level=i)
    monkeypatch.setattr(lazy, "MOST_AT_ONCE", 3)
    found = folder(tmp_path)
    assert isinstance(found, lazy.LazyImages)
    assert found.__getitems__([2]).images.max() == 2


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=5),
    st.sampled_from([".png", ".jpg", ".gif", ".tiff", ".bmp"]),
)
@settings(deadline=None, max_examples=60)
def test_random_bytes_never_end_in_a_traceback(contents, suffix):
    magic = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8\xff", ".gif": b"GIF89a", ".tiff": b"II*\0", ".bmp": b"BM"}
    with tempfile.TemporaryDirectory() as name:
        for i, content in enumerate(contents):
            Path(name, f"{i}{suffix}").write_bytes(magic[suffix] + content)
        try:
            folder(Path(name))
        except EbmctlError as error:
            assert "can't be read" in str(error)


@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 5))
@settings(deadline=None)
def test_every_epoch_visits_each_image_once_and_any_step_can_be_resumed(length, batch_size, seed):
    order = IndexOrder(length, batch_size, seed)
    steps = 3 * length // batch_size + 1
    stream = [index for step in range(steps) for index in order.batch(step)]
    for epoch in range(len(stream) // length):
        assert sorted(stream[epoch * length : (epoch + 1) * length]) == list(range(length))
    assert IndexOrder(length, batch_size, seed).batch(steps - 1) == stream[-batch_size:]


def test_epochs_and_seeds_differ():
    order = IndexOrder(50, 50, 0)
    assert order.batch(0) != order.batch(1)
    assert order.batch(0) != IndexOrder(50, 50, 1).batch(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_their_order_with_workers(workers):
    dataset = TensorImages(torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1))
    order = IndexOrder(20, 6, 0)
    source = batches(dataset, order, 3, workers)
    for step in range(3, 9):
        assert next(source).images.flatten().tolist() == order.batch(step)
    source.close()


def test_to_float(generator):
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal((to_float(levels) * 255).round().byte(), levels)
    noisy = to_float(levels.expand(1000, 256), generator)
    within = noisy * 256 - levels
    assert 0 <= within.min() < 0.01
    assert 0.99 < within.max() <= 1  # 255 and the largest number below 1 round to 256
    assert torch.allclose(noisy.mean(0), (levels.float() + 0.5) / 256, atol=1e-3)


def test_fit_pixels():
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(fit_pixels(images, 8, 3), images)
    assert fit_pixels(images, 4, 1).shape == (3, 1, 4, 4)
    grey = fit_pixels(images[:, :1], 8, 3)
    assert torch.equal(grey[:, 0], grey[:, 2])
    flat = torch.full((1, 1, 8, 8), 93, dtype=torch.uint8)
    assert (fit_pixels(flat, 16, 3) == 93).all()
