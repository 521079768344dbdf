"""Shards: round trips, resuming, damage, and the order in which they are read."""

from __future__ import annotations

import json
import math
import pickle
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ebmctl.config.dataset import DatasetName
from ebmctl.data import shards
from ebmctl.data.base import DataRequest, TensorImages
from ebmctl.data.loader import batches
from ebmctl.data.order import IndexOrder, ShardOrder
from ebmctl.data.shards import ShardImages, verify, write_shards
from ebmctl.errors import EbmctlError

SHAPE = (3, 8, 8)


@pytest.fixture
def data(generator) -> TensorImages:
    images = torch.randint(0, 256, (50, *SHAPE), dtype=torch.uint8, generator=generator)
    return TensorImages(
        images, torch.randint(0, 2, (50, 2), generator=generator), ("young", "smiling"), exclusive=False
    )


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 12 * math.prod(SHAPE))


def opened(path, size=8, channels=3) -> ShardImages:
    return ShardImages(path, DataRequest("train", path, size, channels))


def test_round_trip(tmp_path, data):
    assert list(write_shards(data, "x", tmp_path, SHAPE)) == [12, 24, 36, 48, 50]
    found = opened(tmp_path)
    assert (len(found), found.label_names, found.exclusive) == (50, ("young", "smiling"), False)
    order = torch.randperm(50).tolist()
    images, labels = found.__getitems__(order)
    assert torch.equal(images, data.images[order])
    assert torch.equal(labels, data.labels[order])
    assert opened(tmp_path, 4, 1).__getitems__([0, 49]).images.shape == (2, 1, 4, 4)
    assert len(list(verify(tmp_path))) == 10


def test_they_are_numpys_own_files(tmp_path, data):
    list(write_shards(data, "x", tmp_path, SHAPE))
    images = np.load(tmp_path / "00001.npy", mmap_mode="r", allow_pickle=False)
    assert np.array_equal(images, data.images[12:24].numpy())
    labels = np.load(tmp_path / "00001.labels.npy", allow_pickle=False)
    assert np.array_equal(np.unpackbits(labels, axis=1, count=2), data.labels[12:24].numpy())
    np.save(tmp_path / "saved.npy", images)
    assert (tmp_path / "saved.npy").read_bytes() == (tmp_path / "00001.npy").read_bytes()


def test_without_labels(tmp_path, data):
    list(write_shards(TensorImages(data.images), "x", tmp_path, SHAPE))
    batch = opened(tmp_path).__getitems__([7, 30])
    assert torch.equal(batch.images, data.images[[7, 30]])
    assert batch.labels.shape == (2, 0)
    assert not list(tmp_path.glob("*.labels.npy"))


def test_more_labels_than_a_byte_holds(tmp_path, generator):
    labels = torch.eye(19)[torch.randint(0, 19, (40,), generator=generator)]
    images = torch.zeros(40, *SHAPE, dtype=torch.uint8)
    list(write_shards(TensorImages(images, labels, [str(n) for n in range(19)]), "x", tmp_path, SHAPE))
    batch = opened(tmp_path).__getitems__(range(40))
    assert torch.equal(batch.labels, labels)
    assert batch.labels.dtype == torch.float32
    soft = TensorImages(images, labels / 2, [str(n) for n in range(19)])
    with pytest.raises(EbmctlError, match="labels of 0 and 1 only"):
        list(write_shards(soft, "x", tmp_path / "soft", SHAPE))


@pytest.mark.parametrize("chunk", [5, 12, 100])
def test_decoded_in_chunks(tmp_path, data, monkeypatch, chunk):
    monkeypatch.setattr(shards, "CHUNK", chunk)
    list(write_shards(data, "x", tmp_path, SHAPE))
    batch = opened(tmp_path).__getitems__(range(50))
    assert torch.equal(batch.images, data.images)
    assert torch.equal(batch.labels, data.labels)


def test_reading_workers(tmp_path, data):
    list(write_shards(data, "x", tmp_path, SHAPE))
    found = opened(tmp_path)
    order = ShardOrder(found.lengths, 10, 0)
    for step, batch in zip(range(6), batches(found, order, 0, workers=2), strict=False):
        assert torch.equal(batch.images, data.images[order.batch(step)])
    again = pickle.loads(pickle.dumps(found))  # what a spawned worker is sent
    assert torch.equal(again.__getitems__([49]).labels, data.labels[[49]])


def test_goes_on_where_it_was_stopped(tmp_path, data):
    list(write_shards(data, "x", tmp_path / "whole", SHAPE))
    writing = write_shards(data, "x", tmp_path / "part", SHAPE)
    next(writing), next(writing)
    writing.close()
    with pytest.raises(EbmctlError, match="is not complete: 24 of 50 images"):
        opened(tmp_path / "part")
    assert list(write_shards(data, "x", tmp_path / "part", SHAPE)) == [36, 48, 50]
    assert list(write_shards(data, "x", tmp_path / "part", SHAPE)) == []
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "part" / file.name).read_bytes()
    with pytest.raises(EbmctlError, match="has shards of x with other settings"):
        list(write_shards(data, "y", tmp_path / "part", SHAPE))


def test_killed_between_a_shard_and_the_index(tmp_path, data):
    writing = write_shards(data, "x", tmp_path, SHAPE)
    next(writing)
    writing.close()
    (tmp_path / "00001.npy").write_bytes(b"of a shard that the index does not know")
    list(write_shards(data, "x", tmp_path, SHAPE))
    assert torch.equal(opened(tmp_path).__getitems__(range(50)).images, data.images)


def test_one_process_writes_at_a_time(tmp_path, data):
    """Those of a training that find no converted images all begin to convert them."""
    first = write_shards(data, "x", tmp_path, SHAPE)
    next(first)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(lambda: list(write_shards(data, "x", tmp_path, SHAPE)))
        assert wait([second], timeout=0.3).not_done
        assert list(first) == [24, 36, 48, 50]
        assert second.result(timeout=60) == []


def test_goes_on_after_shards_of_another_size(tmp_path, data, monkeypatch):
    writing = write_shards(data, "x", tmp_path, SHAPE)
    next(writing)
    writing.close()
    monkeypatch.setattr(shards, "SHARD_BYTES", 20 * math.prod(SHAPE))
    assert list(write_shards(data, "x", tmp_path, SHAPE)) == [32, 50]
    assert torch.equal(opened(tmp_path).__getitems__(range(50)).images, data.images)


@pytest.mark.parametrize("name", ["00002.npy", "00002.labels.npy"])
def test_damage_is_named(tmp_path, data, name):
    list(write_shards(data, "x", tmp_path, SHAPE))
    before = opened(tmp_path)
    victim = tmp_path / name
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EbmctlError, match=rf"{name} is missing or was altered"):
        list(verify(tmp_path))
    victim.write_bytes(content[:-1])
    with pytest.raises(EbmctlError, match=rf"{name} was cut short"):
        opened(tmp_path)
    with pytest.raises(EbmctlError, match=rf"{name} was cut short"):
        before.__getitems__([35])
    victim.write_bytes(content + b"0")
    with pytest.raises(EbmctlError, match=rf"{name} has more"):
        opened(tmp_path)
    victim.unlink()
    with pytest.raises(EbmctlError, match=rf"can't read the shard .*{name}"):
        opened(tmp_path)
    with pytest.raises(EbmctlError, match=rf"can't read the shard .*{name}"):
        before.__getitems__([35])
    with pytest.raises(EbmctlError, match=rf"{name} is missing or was altered"):
        list(verify(tmp_path))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((12, *SHAPE), np.int8),
        np.zeros((12, 8, 8, 3), np.uint8),
        np.zeros((11, *SHAPE), np.uint8),
        np.zeros((12, *SHAPE), np.uint8, order="F"),
        np.array([{}] * 500, object),
        np.zeros((12, *SHAPE), [("x", "u1")]),
    ],
)
def test_other_arrays_are_refused(tmp_path, data, array):
    list(write_shards(data, "x", tmp_path, SHAPE))
    np.save(tmp_path / "00002.npy", array, allow_pickle=True)  # a hostile file, which must be refused
    with pytest.raises(EbmctlError, match=r"00002\.npy is damaged: it is no \.npy file of \(12, 3, 8, 8\) bytes"):
        opened(tmp_path)


def test_tar_files_of_an_earlier_version(tmp_path, data):
    (tmp_path / "index.json").write_text('{"format": 1, "shards": [{"name": "00000.tar"}]}')
    for use in (opened, lambda path: list(write_shards(data, "x", path, SHAPE)), lambda path: list(verify(path))):
        with pytest.raises(EbmctlError, match="tar files of an earlier version; prepare its images anew"):
            use(tmp_path)


SMALL = {
    "format": 2,
    "source": "x",
    "shape": [1, 2, 2],
    "label_names": ["a"],
    "exclusive": True,
    "images": 3,
    "shards": [{"images": 3, "sha256": "", "labels_sha256": ""}],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 3},
        {"shards": 3},
        {"shape": [2, 2]},
        {"shape": [1, 2, 3]},
        {"shape": [2, 2, 2]},
        {"shape": [1, 0, 0]},
        {"images": 0, "shards": []},
        {"shards": [{"images": 4, "sha256": ""}, {"images": -1, "sha256": ""}]},
        {"shards": [{"images": 3, "sha256": "", "name": "../00000.npy"}]},
    ],
)
def test_a_bad_index(tmp_path, changes):
    with pytest.raises(EbmctlError, match="holds no shards"):
        opened(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps(SMALL | changes))
    with pytest.raises(EbmctlError, match="is not an index of shards"):
        opened(tmp_path)


HEADERS = [shards._header((3, 1, 2, 2)), shards._header((3, 1)), b"\x93NUMPY\x01\x00\xff\xff(((", b"PK\x03\x04", b""]
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
JSON = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(max_size=9), SCALAR, max_size=3)
NUMBERS = st.integers(-3, 5) | st.sampled_from([3, 10**30, True, 1e999])
SHARD = st.fixed_dictionaries({"images": NUMBERS | JSON, "sha256": st.text()}, optional={"name": st.just("../x")})
CHANGES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys([*SMALL, "a\nb"], JSON)
    | {"images": NUMBERS, "shape": st.lists(NUMBERS, max_size=4), "shards": st.lists(SHARD, max_size=3)},
)
INDEX = CHANGES.map(lambda changes: json.dumps(SMALL | changes).encode())
BYTES = st.builds(lambda header, rest: header + rest, st.sampled_from(HEADERS), st.binary(max_size=14))


@given(INDEX | st.binary(max_size=40), BYTES, BYTES)
@example(json.dumps(SMALL).encode(), HEADERS[0] + bytes(12), HEADERS[1] + b"\xff" * 3)
@example(b"[" * 100_000, b"", b"")
@example(json.dumps(SMALL | {"shape": [1e999, 1e999]}).encode(), b"", b"")
def test_any_files_give_images_or_one_error(index, images, labels):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("index.json", index), ("00000.npy", images), ("00000.labels.npy", labels)):
            Path(folder, name).write_bytes(content)
        assert DatasetName.parse(f"shards:{folder}").native_shape != ()
        try:
            found = opened(Path(folder), 2, 1)
            batch = found.__getitems__(range(len(found)))
        except EbmctlError as error:
            assert "\n" not in str(error)
        else:
            assert batch.images.shape == (len(found), 1, 2, 2)
            assert batch.labels.shape == (len(found), len(found.label_names))


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


@given(LENGTHS, st.integers(1, 7), st.integers(1, 3), st.integers(0, 10), st.integers(1, 3))
def test_every_image_once_an_epoch(lengths, batch, ranks, seed, window):
    for rank in range(ranks):
        order = ShardOrder(lengths, batch, seed, rank, ranks, window)
        steps = order.length // math.gcd(order.length, batch)
        seen = Counter(i for step in range(steps) for i in order.batch(step))
        assert len(seen) == order.length
        assert len(set(seen.values())) == 1
        again = ShardOrder(lengths, batch, seed, rank, ranks, window)
        assert again.batch(steps // 2) == order.batch(steps // 2)


def test_ranks_have_shards_of_their_own_and_read_within_a_window():
    lengths = [10] * 12
    orders = [ShardOrder(lengths, 5, 0, rank, 2, window=2) for rank in range(2)]
    seen = [[i // 10 for step in range(12) for i in order.batch(step)] for order in orders]
    assert not set(seen[0]) & set(seen[1])
    for shards_read in seen:
        groups = [set(shards_read[low : low + 20]) for low in range(0, 60, 20)]
        assert all(len(group) == 2 for group in groups)
        assert all(not a & b for a, b in pairwise(groups))
    assert [i for step in range(12) for i in orders[0].batch(step)] != sorted(
        i for step in range(12) for i in orders[0].batch(step)
    )


def test_ranks_share_out_the_joined_batches():
    whole = IndexOrder(23, 8, 3)
    parts = [IndexOrder(23, 4, 3, rank, 2) for rank in range(2)]
    for step in range(9):
        assert parts[0].batch(step) + parts[1].batch(step) == whole.batch(step)
