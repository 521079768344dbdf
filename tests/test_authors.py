"""Reading checkpoints as data: what is damaged or hostile ends in a ValueError, and is never run."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmctl.authors import read_checkpoint, residual_state


def checkpoint() -> bytes:
    stream = io.BytesIO()
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 2])}
    torch.save({"model": tensors, "name": "x", "step": 3, "flags": [True, None, (1.5,)]}, stream)
    return stream.getvalue()


def with_pickle(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return stream.getvalue()


def test_reads_what_torch_writes(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(checkpoint())
    found = read_checkpoint(path)
    assert torch.equal(found["model"]["a"], torch.arange(6.0).view(2, 3).T)
    assert found["model"]["b"].tolist() == [1, 2]
    assert (found["name"], found["step"], found["flags"]) == ("x", 3, [True, None, (1.5,)])


def test_a_hostile_pickle_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    path = tmp_path / "x.pth"
    path.write_bytes(with_pickle(pickle.dumps({"a": Hostile()}, protocol=2)))
    assert read_checkpoint(path) == {"a": None}
    assert not (tmp_path / "made").exists()


def test_nesting_without_end(tmp_path):
    cycle: dict = {}
    cycle["self"] = cycle
    path = tmp_path / "x.pth"
    path.write_bytes(with_pickle(pickle.dumps(cycle, protocol=2)))
    with pytest.raises(ValueError, match="not a readable"):
        read_checkpoint(path)


@given(st.integers(0, 2**16), st.integers(1, 255), st.booleans())
@settings(deadline=None, max_examples=200)
def test_damaged_files_end_in_a_value_error(tmp_path_factory, position, change, cut):
    data = bytearray(checkpoint())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] ^= change
    path = tmp_path_factory.mktemp("damaged") / "x.pth"
    path.write_bytes(data)
    try:
        assert isinstance(read_checkpoint(path), dict)  # the damage may lie where it does not matter
    except ValueError as error:
        assert "x.pth" in str(error)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_random_pickles_end_in_a_value_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("random") / "x.pth"
    path.write_bytes(with_pickle(data + b"."))
    try:
        assert isinstance(read_checkpoint(path), dict)
    except ValueError as error:
        assert "x.pth" in str(error)


def test_tensors_of_another_network():
    with pytest.raises(ValueError, match="not one of the authors'"):
        residual_state({"weight": torch.zeros(1)})
