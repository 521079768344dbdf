"""Tiny files in each set's true format, loaded through the real loaders."""

from __future__ import annotations

import gzip
import io
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ebmctl.builtins import DATASETS
from ebmctl.data import idx, lazy
from ebmctl.data.base import DataRequest
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.errors import EbmctlError
from ebmctl.registry import find, native_shape


def load(name: str, root: Path, split: str = "train", size: int | None = None, channels: int | None = None):
    own = native_shape(name)
    request = DataRequest(split, root, size or own[0], channels or own[1], download=False)
    return open_dataset(name, request, lambda n: find("dataset", n).load())


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def test_every_name_has_a_shape_and_a_line():
    assert all(about and native_shape(name) for name, (_, about) in DATASETS.items())


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
@pytest.mark.parametrize("zipped", [True, False])
def test_idx(tmp_path, monkeypatch, name, folder, zipped):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    raw, images, labels = tmp_path / folder, random_pixels(7, 28, 28), np.arange(7, dtype=np.uint8)
    raw.mkdir(parents=True)
    for stem, array in (("t10k-images-idx3-ubyte", images), ("t10k-labels-idx1-ubyte", labels)):
        data = idx_bytes(array)
        (raw / (stem + (".gz" if zipped else ""))).write_bytes(gzip.compress(data) if zipped else data)
    found = load(name, tmp_path, "test")
    batch = found.__getitems__([6, 0])
    assert torch.equal(batch.images[:, 0], torch.from_numpy(images[[6, 0]]))
    assert batch.labels.argmax(1).tolist() == [6, 0]
    assert len(found.label_names) == 10
    assert load(name, tmp_path, "test", size=32, channels=3).__getitems__([0]).images.shape == (1, 3, 32, 32)
    with pytest.raises(EbmctlError, match=f"{name} is not in"):
        load(name, tmp_path, "train")


def test_fashion_mnist_is_found_where_debian_puts_it(tmp_path, monkeypatch):
    elsewhere = tmp_path / "debian"
    elsewhere.mkdir()
    (elsewhere / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(random_pixels(3, 28, 28))))
    (elsewhere / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(np.zeros(3, np.uint8))))
    monkeypatch.setattr(idx, "DEBIAN", elsewhere)
    assert len(load("fashion-mnist", tmp_path)) == 3


@pytest.mark.parametrize("cut", [0, 3, 10, 100])
def test_damaged_idx_files_are_named(tmp_path, cut):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(idx_bytes(random_pixels(2, 28, 28))[:cut])
    with pytest.raises(EbmctlError, match="x-idx3-ubyte is not a whole idx file"):
        idx.read_idx(path)
    zipped = tmp_path / "y.gz"
    zipped.write_bytes(gzip.compress(b"x" * 100)[: cut // 3])
    with pytest.raises(EbmctlError, match=r"y\.gz"):
        idx.read_idx(zipped)


def test_cifar10(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    pixels = random_pixels(6, 3, 32, 32)
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(bytes([i]) + pixels[i].tobytes())
    (folder / "test_batch.bin").write_bytes(bytes([9]) + pixels[5].tobytes())
    train, test = load("cifar10", tmp_path), load("cifar10", tmp_path, "test")
    assert (len(train), len(test), train.label_names) == (5, 1, tuple(names))
    assert torch.equal(train.__getitems__(range(5)).images, torch.from_numpy(pixels[:5]))
    assert train.__getitems__(range(5)).labels.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert test.__getitems__([0]).labels.argmax(1).tolist() == [9]
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(EbmctlError, match="the binary version"):
        load("cifar10", tmp_path)
    (folder / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    with pytest.raises(EbmctlError, match="has the class 10"):
        load("cifar10", tmp_path, "test")
    (folder / "test_batch.bin").write_bytes(b"\x00" * 3000)
    with pytest.raises(EbmctlError, match=r"test_batch\.bin is truncated"):
        load("cifar10", tmp_path, "test")


def test_cifar100(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("\n".join(f"class{i}" for i in range(100)))
    pixels = random_pixels(2, 3, 32, 32)
    (folder / "test.bin").write_bytes(b"".join(bytes([3, 40 + i]) + pixels[i].tobytes() for i in range(2)))
    batch = load("cifar100", tmp_path, "test").__getitems__([0, 1])
    assert batch.labels.argmax(1).tolist() == [40, 41]  # the fine label is the second byte
    assert torch.equal(batch.images, torch.from_numpy(pixels))


def test_svhn(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    pixels = random_pixels(32, 32, 3, 4)
    (tmp_path / "svhn").mkdir()
    savemat(tmp_path / "svhn" / "test_32x32.mat", {"X": pixels, "y": np.array([[1], [10], [3], [9]], np.uint8)})
    with pytest.raises(EbmctlError, match="svhn is not in"):
        load("svhn", tmp_path, "test")  # its checksum is not the real one's
    monkeypatch.setattr(SVHN, "_check_integrity", lambda _: True)
    batch = load("svhn", tmp_path, "test").__getitems__(range(4))
    assert batch.labels.argmax(1).tolist() == [1, 0, 3, 9]
    assert torch.equal(batch.images, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))


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
    with pytest.raises(EbmctlError, match="textures is not in"):
        load("textures", tmp_path, "test")


def test_imagenet32(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    pixels, labels = random_pixels(5, 32, 32, 3), [0, 999, 256, 255, 1]
    folder = tmp_path / "imagenet32" / "data"
    folder.mkdir(parents=True)
    for shard, rows in (("train-00000-of-00002", [0, 1, 2]), ("train-00001-of-00002", [3, 4])):
        images = [{"bytes": encoded(pixels[i]), "path": f"{i}.png"} for i in rows]
        table = pa.table({"image": images, "label": [labels[i] for i in rows]})
        parquet.write_table(table, folder / f"{shard}.parquet")
    for _ in range(2):  # the second time from the converted file
        found = load("imagenet32", tmp_path)
        batch = found.__getitems__([4, 1, 2, 3])
        assert len(found) == 5
        assert batch.labels.argmax(1).tolist() == [1, 999, 256, 255]
        assert torch.equal(batch.images, torch.from_numpy(pixels[[4, 1, 2, 3]]).permute(0, 3, 1, 2))
    with pytest.raises(EbmctlError, match="imagenet32 is not in"):
        load("imagenet32", tmp_path, "test")
    (folder / "val-0.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(EbmctlError, match="no images in parquet"):
        load("imagenet32", tmp_path, "test")
    assert not (tmp_path / "imagenet32" / "test.npy").exists()


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
    with pytest.raises(EbmctlError, match="not a whole table"):
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
    with pytest.raises(EbmctlError, match="lsun-bedroom is not in"):
        load("lsun-bedroom", tmp_path, "test")


def test_digits(tmp_path):
    train, test = load("digits", tmp_path), load("digits", tmp_path, "test")
    assert (len(train), len(test)) == (1438, 359)
    rows = {image.numpy().tobytes() for image in train.__getitems__(range(1438)).images}
    assert not rows & {image.numpy().tobytes() for image in test.__getitems__(range(359)).images}
    assert test.__getitems__(range(359)).labels.sum(0).min() > 20
    assert load("digits", tmp_path, size=8).__getitems__([0]).images.max() == 255


@pytest.mark.parametrize("name", ["noise", "constant"])
def test_synthetic(tmp_path, name):
    first, again, test = (load(name, tmp_path, split).__getitems__(range(500)) for split in ("train", "train", "test"))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, test.images)
    spread = first.images.float().flatten(2).std(2)
    assert spread.max() == 0 if name == "constant" else spread.min() > 50
    assert first.images.float().mean() == pytest.approx(127.5, abs=5)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"digits", "noise", "constant"}))
def test_a_set_that_is_not_there_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    with pytest.raises(EbmctlError) as caught:
        load(name, tmp_path)
    assert str(caught.value).startswith(name)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("EBMCTL_DATA", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("EBMCTL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "ebmctl" / "data"


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
