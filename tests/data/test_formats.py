"""Sets of arrays, in tiny files of their true formats, through the real loaders."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch

from ebmctl.config.builtins import DATASETS
from ebmctl.data import idx, shards
from ebmctl.data.datasets import default_root
from ebmctl.errors import EbmctlError
from tests.data.formats import encoded, load, random_pixels


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


def test_every_name_has_a_shape_and_a_line():
    """But for what is made in any shape."""
    assert all(each.about for each in DATASETS)
    assert {each.name for each in DATASETS if each.shape is None} == {"noise", "constant"}


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
    with pytest.raises(EbmctlError, match=f"{name} was not found in"):
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
    with pytest.raises(EbmctlError, match="x-idx3-ubyte is not a complete idx file"):
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
    between = load("cifar10-interp", tmp_path).__getitems__(range(5)).images.int()
    real = torch.from_numpy(pixels).int()
    pairs = [
        {(i, j) for i in range(5) for j in range(i) if ((image * 2 - real[i] - real[j]).abs() <= 1).all()}
        for image in between
    ]
    assert all(len(found) == 1 for found in pairs)
    assert sorted(i for found in pairs for i in next(iter(found))) == sorted([*range(5)] * 2)  # each in two means
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
    with pytest.raises(EbmctlError, match="svhn was not found in"):
        load("svhn", tmp_path, "test")  # its checksum is not the real one's
    monkeypatch.setattr(SVHN, "_check_integrity", lambda _: True)
    batch = load("svhn", tmp_path, "test").__getitems__(range(4))
    assert batch.labels.argmax(1).tolist() == [1, 0, 3, 9]
    assert torch.equal(batch.images, torch.from_numpy(pixels.transpose(3, 2, 0, 1).copy()))


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
    for _ in range(2):  # the second time from the shards
        found = load("imagenet32", tmp_path)
        batch = found.__getitems__([4, 1, 2, 3])
        assert len(found) == 5
        assert not isinstance(found, shards.ShardImages)  # which training reads in windows, not at random
        assert batch.labels.argmax(1).tolist() == [1, 999, 256, 255]
        assert torch.equal(batch.images, torch.from_numpy(pixels[[4, 1, 2, 3]]).permute(0, 3, 1, 2))
    with pytest.raises(EbmctlError, match="imagenet32 was not found in"):
        load("imagenet32", tmp_path, "test")
    (folder / "val-0.parquet").write_bytes(b"PAR1 not really PAR1")
    with pytest.raises(EbmctlError, match="no images in parquet"):
        load("imagenet32", tmp_path, "test")
    assert not (tmp_path / "imagenet32" / "shards" / "test" / "index.json").exists()
    for file in folder.iterdir():
        file.unlink()
    assert len(load("imagenet32", tmp_path)) == 5


def test_imagenet32_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    import pyarrow as pa
    from pyarrow import parquet

    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * 3072)
    pixels = random_pixels(5, 32, 32, 3)
    images = [{"bytes": encoded(one), "path": ""} for one in pixels]
    (tmp_path / "imagenet32").mkdir()
    parquet.write_table(pa.table({"image": images, "label": range(5)}), tmp_path / "imagenet32" / "val-0.parquet")
    load("imagenet32", tmp_path, "test")
    index = tmp_path / "imagenet32" / "shards" / "test" / "index.json"
    content = json.loads(index.read_text())
    assert [shard["images"] for shard in content["shards"]] == [2, 2, 1]
    index.write_text(json.dumps(content | {"shards": content["shards"][:1]}))
    first = index.with_name("00000.npy").stat().st_mtime_ns
    batch = load("imagenet32", tmp_path, "test").__getitems__(range(5))
    assert torch.equal(batch.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert batch.labels.argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert index.with_name("00000.npy").stat().st_mtime_ns == first


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


@pytest.mark.parametrize(
    "name", sorted({each.name for each in DATASETS} - {"digits", "faces", "objects", "noise", "constant"})
)
def test_a_set_that_is_not_there_is_one_line(tmp_path, monkeypatch, name):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "none")
    with pytest.raises(EbmctlError) as caught:
        load(name, tmp_path)
    assert str(caught.value).startswith(name.removesuffix("-interp").removesuffix("-top-left"))  # made of cifar10
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("EBMCTL_DATA", str(tmp_path))
    assert default_root() == tmp_path
    monkeypatch.delenv("EBMCTL_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_root() == tmp_path / "cache" / "ebmctl" / "data"
