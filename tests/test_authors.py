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

from ebmctl.authors.networks import recognise
from ebmctl.authors.torch_file import read_checkpoint


def checkpoint(legacy: bool = False) -> bytes:
    stream = io.BytesIO()
    tensors = {"a": torch.arange(6.0).view(2, 3).T, "b": torch.tensor([1, 2])}
    content = {"model": tensors, "name": "x", "step": 3, "flags": [True, None, (1.5,)]}
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def with_pickle(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return stream.getvalue()


@pytest.mark.parametrize("legacy", [False, True])
def test_reads_what_torch_writes(tmp_path, legacy):
    path = tmp_path / "x.pth"
    path.write_bytes(checkpoint(legacy))
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
    with pytest.raises(ValueError, match=r"it calls \w+\.mkdir"):
        read_checkpoint(path)
    assert not (tmp_path / "made").exists()


def test_nesting_without_end(tmp_path):
    cycle: dict = {}
    cycle["self"] = cycle
    path = tmp_path / "x.pth"
    path.write_bytes(with_pickle(pickle.dumps(cycle, protocol=2)))
    with pytest.raises(ValueError, match="not a readable PyTorch checkpoint"):
        read_checkpoint(path)


@given(st.integers(0, 2**16), st.integers(1, 255), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=200)
def test_damaged_files_end_in_a_value_error(tmp_path_factory, position, change, cut, legacy):
    data = bytearray(checkpoint(legacy))
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
        recognise({"weight": torch.zeros(1)})


def test_references_to_references_end(tmp_path):
    nested: list = [1]
    for _ in range(40):
        nested = [nested] * 2
    path = tmp_path / "x.pth"
    path.write_bytes(with_pickle(pickle.dumps({"a": nested}, protocol=2)))
    with pytest.raises(ValueError, match="more values"):
        read_checkpoint(path)


def test_tensors_that_are_larger_than_the_file(tmp_path):
    path = tmp_path / "x.pth"
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(10**12)}, stream)
    path.write_bytes(stream.getvalue())
    with pytest.raises(ValueError, match="larger than the file"):
        read_checkpoint(path)


def test_compressed_storages_are_refused(tmp_path):
    path = tmp_path / "x.pth"
    with (
        zipfile.ZipFile(io.BytesIO(checkpoint())) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(ValueError, match="truncated"):
        read_checkpoint(path)
