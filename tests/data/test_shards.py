"""Shards: round trips, resuming, damage, and the order in which they are read."""

from __future__ import annotations

import io
import json
import math
import tarfile
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ebmctl.data import shards
from ebmctl.data.base import DataRequest, TensorImages
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
    monkeypatch.setattr(shards, "SHARD_BYTES", 12 * shards._stride(SHAPE, 2))


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
    assert len(list(verify(tmp_path))) == 5


def test_other_programs_can_read_them(tmp_path, data):
    """WebDataset groups the members of a tar file by the name up to the first dot."""
    list(write_shards(data, "x", tmp_path, SHAPE))
    with tarfile.open(tmp_path / "00001.tar") as archive:
        members = archive.getmembers()
        assert [m.name for m in members[:3]] == ["000000012.npy", "000000012.label.npy", "000000013.npy"]
        content = archive.extractfile(members[2]).read()
    assert np.array_equal(np.load(io.BytesIO(content), allow_pickle=False), data.images[13].numpy())


def test_without_labels(tmp_path, data):
    list(write_shards(TensorImages(data.images), "x", tmp_path, SHAPE))
    assert torch.equal(opened(tmp_path).__getitems__([7]).images[0], data.images[7])


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


def test_damage_is_named(tmp_path, data):
    list(write_shards(data, "x", tmp_path, SHAPE))
    victim = tmp_path / "00002.tar"
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    with pytest.raises(EbmctlError, match=r"00002\.tar is missing or was altered"):
        list(verify(tmp_path))
    victim.write_bytes(bytes(len(content)))
    with pytest.raises(EbmctlError, match=r"00002\.tar is damaged"):
        opened(tmp_path).__getitems__([24])
    victim.write_bytes(content[:1000])
    with pytest.raises(EbmctlError, match=r"00002\.tar was cut short"):
        opened(tmp_path)
    victim.unlink()
    with pytest.raises(EbmctlError, match=r"can't read the shard .*00002\.tar"):
        opened(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "shards": 3}', '{"format": 2, "shards": []}'])
def test_a_bad_index(tmp_path, text):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(EbmctlError, match="is not an index of shards"):
        opened(tmp_path)
    with pytest.raises(EbmctlError, match="holds no shards"):
        opened(tmp_path / "none")


def test_names_in_an_index_stay_in_its_folder(tmp_path, data):
    list(write_shards(data, "x", tmp_path, SHAPE))
    index = json.loads((tmp_path / "index.json").read_text())
    index["shards"][0]["name"] = "../00000.tar"
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(EbmctlError, match="is not an index of shards"):
        opened(tmp_path)


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
