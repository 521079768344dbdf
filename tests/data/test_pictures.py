"""Sets of encoded pictures, in tiny files of their true formats, through the real loaders."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmctl.data import lazy
from ebmctl.data.base import DataRequest
from ebmctl.errors import EbmctlError
from tests.data.formats import encoded, load


def test_textures(tmp_path):
    data = tmp_path / "dtd" / "dtd"
    (data / "labels").mkdir(parents=True)
    (data / "labels" / "train1.txt").write_text("banded/banded_1.jpg\ndotted/dotted_1.jpg\n")
    for kind, level in (("banded", 40), ("dotted", 200)):
        (data / "images" / kind).mkdir(parents=True)
        pixels = np.full((40, 80, 3), level, np.uint8)
        pixels[:, :10] = 255  # cut off by the centre crop
        (data / "images" / kind / f"{kind}_1.jpg").write_bytes(encoded(pixels, "JPEG"))
    found = load("textures", tmp_path)
    batch = found.__getitems__([0, 1])
    assert found.label_names == ("banded", "dotted")
    assert (batch.images[0].float() - 40).abs().max() < 4
    assert (batch.images[1].float() - 200).abs().max() < 4
    corner = load("textures-top-left", tmp_path).__getitems__([0]).images[0].float()
    assert (corner[:, :, :8] - 255).abs().max() < 12
    assert (corner[:, :, 16:] - 40).abs().max() < 12
    with pytest.raises(EbmctlError, match="textures was not found in"):
        load("textures", tmp_path, "test")


def attribute_names() -> list[str]:
    return ["Young", "Male", "Smiling", *(f"Attribute_{i}" for i in range(37))]


def test_celeba(tmp_path, monkeypatch):
    from torchvision.datasets import CelebA

    monkeypatch.setattr(CelebA, "_check_integrity", lambda _: True)
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    files = [f"{i:06d}.jpg" for i in range(1, 5)]
    for i, file in enumerate(files):
        (folder / "img_align_celeba" / file).write_bytes(encoded(np.full((218, 178, 3), 60 * i, np.uint8), "JPEG"))
    (folder / "list_eval_partition.txt").write_text(
        "".join(f"{f} {p}\n" for f, p in zip(files, [0, 0, 2, 2], strict=True))
    )
    rows = [[1, -1, 1] + [-1] * 37, [-1, -1, -1] + [1] * 37, [1] * 40, [-1] * 40]
    header = f"4\n{' '.join(attribute_names())} \n"
    text = header + "".join(f"{f} {' '.join(map(str, r))}\n" for f, r in zip(files, rows, strict=True))
    (folder / "list_attr_celeba.txt").write_text(text)
    (folder / "identity_CelebA.txt").write_text("".join(f"{f} 1\n" for f in files))
    (folder / "list_bbox_celeba.txt").write_text("4\nx_1 y_1 width height\n" + "".join(f"{f} 1 1 1 1\n" for f in files))
    marks = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    (folder / "list_landmarks_align_celeba.txt").write_text(
        f"4\n{marks}\n" + "".join(f"{f} {' '.join('1' * 10)}\n" for f in files)
    )
    found = load("celeba", tmp_path)
    batch = found.__getitems__([0, 1])
    assert found.label_names == tuple(attribute_names())
    assert not found.exclusive
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.images.float().mean((1, 2, 3)).tolist() == pytest.approx([0, 60], abs=3)
    assert batch.labels[:, :3].tolist() == [[1, 0, 1], [0, 0, 0]]
    assert len(load("celeba", tmp_path, "test")) == 2


def test_celebahq(tmp_path):
    folder = tmp_path / "CelebAMask-HQ"
    (folder / "CelebA-HQ-img").mkdir(parents=True)
    lines = ["20", " ".join(attribute_names())]
    for i in range(20):
        (folder / "CelebA-HQ-img" / f"{i}.jpg").write_bytes(encoded(np.full((256, 256, 3), 10 * i, np.uint8), "JPEG"))
        lines.append(f"{i}.jpg  " + " ".join(["1" if i % 2 else "-1"] + ["-1"] * 39))
    table = folder / "CelebAMask-HQ-attribute-anno.txt"
    table.write_text("\n".join(lines) + "\n")
    train, test = load("celebahq", tmp_path), load("celebahq", tmp_path, "test")
    assert (len(train), len(test)) == (18, 2)
    batch = test.__getitems__([0, 1])
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.images.float().mean((1, 2, 3)).tolist() == pytest.approx([180, 190], abs=3)
    assert batch.labels[:, 0].tolist() == [0, 1]
    table.write_text("\n".join(lines).replace("3.jpg", "../3.jpg"))
    with pytest.raises(EbmctlError, match="outside of its folder"):
        load("celebahq", tmp_path)
    table.write_text("\n".join([*lines[:2], "0.jpg 1 2"]))
    with pytest.raises(EbmctlError, match="not a complete table"):
        load("celebahq", tmp_path)


def test_lsun_bedroom(tmp_path):
    import lmdb

    environment = lmdb.open(str(tmp_path / "bedroom_train_lmdb"), map_size=1 << 20)
    with environment.begin(write=True) as transaction:
        for i in range(5):
            pixels = np.full((256, 300, 3), 50 * i, np.uint8)
            transaction.put(f"{i:040x}".encode(), encoded(pixels, "WEBP"))
    environment.close()
    found = load("lsun-bedroom", tmp_path)
    batch = found.__getitems__([4, 0])
    assert (len(found), batch.labels.shape) == (5, (2, 0))
    assert batch.images.shape == (2, 3, 128, 128)
    assert batch.images.float().mean((1, 2, 3)).tolist() == pytest.approx([200, 0], abs=3)
    assert not list(Path().glob("_cache_*"))  # torchvision would leave a pickle of the keys here
    with pytest.raises(EbmctlError, match="lsun-bedroom was not found in"):
        load("lsun-bedroom", tmp_path, "test")


def test_lazily_read_images_skip_and_stop(monkeypatch, caplog, tmp_path):
    """A bad image is replaced by the next good one and named; more than 1 % of those read is an error."""
    files = []
    for i in range(300):
        path = tmp_path / f"{i:03d}.png"
        path.write_bytes(encoded(np.full((8, 8), i % 256, np.uint8)))
        files.append(path)
    files[5].write_bytes(b"nothing")
    request = DataRequest("train", tmp_path, 8, 1)
    names = [file.name for file in files]
    images = lazy.LazyImages(names, lazy.FileReader(files), torch.arange(300.0)[:, None], ["n"], request)
    with caplog.at_level(logging.WARNING):
        batch = images.__getitems__(range(10))
    assert batch.labels.flatten().tolist() == [0, 1, 2, 3, 4, 6, 6, 7, 8, 9]  # the label moves with the image
    assert batch.images[5].max() == 6
    assert "005.png" in caplog.text
    for file in files[200:204]:
        file.write_bytes(b"nothing")
    with pytest.raises(EbmctlError, match="5 of 300 images can't be read, more than 1 %"):
        images.__getitems__(range(300))


def test_few_images_of_which_many_are_bad(tmp_path):
    """The share counts images, not readings of them."""
    files = [tmp_path / f"{i}.png" for i in range(45)]
    for i, file in enumerate(files):
        file.write_bytes(b"nothing" if i < 3 else encoded(np.zeros((8, 8), np.uint8)))
    images = lazy.LazyImages(
        files, lazy.FileReader(files), torch.zeros(45, 0), [], DataRequest("train", tmp_path, 8, 1)
    )
    images.__getitems__(range(20))
    with pytest.raises(EbmctlError, match="3 of 45"):
        images.__getitems__(list(range(45)) * 2)
