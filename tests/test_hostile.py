"""Model folders that mean harm: one clear line, in bounded memory, and no file beyond the folder is touched."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import ebmctl
from ebmctl.errors import EbmctlError
from ebmctl.models.folder import ModelConfig, build_network, save_model
from tests.test_run import recipe


@pytest.fixture
def folder(tmp_path) -> Path:
    config = ModelConfig(recipe(), (), {"steps": 0})
    save_model(tmp_path / "model", config, build_network(config.recipe.network, 1, 0).state_dict(), "# card\n")
    return tmp_path / "model"


def complaint(folder: Path) -> str:
    with pytest.raises(EbmctlError) as caught:
        ebmctl.load(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert str(folder) in line
    return line


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


# weights


def header(folder: Path, content: bytes, length: int | None = None, body: bytes = b"") -> None:
    size = len(content) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", size) + content + body)


def one(name: str, dtype: str, shape: list[int], offsets: list[int]) -> bytes:
    return json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    ("content", "length", "body", "says"),
    [
        (b"{}", 2**62, b"", "its header claims to have 4,611,686,018,427,387,904 bytes"),
        (b" " * (5 << 20), None, b"", "its header claims to have 5,242,880 bytes"),
        (b"{}", 50_000, b"", "can't read"),
        (b"not json", None, b"", "can't read"),
        (one("a", "F32", [2**40], [0, 2**42]), None, b"", "can't read"),
        (one("a", "F32", [2**40], [0, 4]), None, b"\0\0\0\0", "can't read"),
        (one("a", "F32", [2**62, 4], [0, 4]), None, b"\0\0\0\0", "can't read"),
        (one("a", "F31", [1], [0, 4]), None, b"\0\0\0\0", "can't read"),
        (one("a", "F32", [1], [0, 4]), None, b"\0\0\0\0" * 9, "can't read"),
        (one("a" * 1000, "F32", [1], [0, 4]), None, b"\0\0\0\0", "do not fit"),
        (one("../../a", "F32", [1], [0, 4]), None, b"\0\0\0\0", "do not fit"),
        (b"{}", None, b"", "do not fit"),
        (b"", None, b"", "can't read"),
    ],
)
def test_headers(folder, content, length, body, says):
    header(folder, content, length, body)
    assert says in complaint(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("scales.0.stem.bias"), "scales.0.stem.bias is missing"),
        (lambda t: t.update(extra=torch.zeros(3)), "extra is unexpected"),
        (lambda t: t.update({"scales.0.stem.bias": torch.zeros(7)}), "scales.0.stem.bias is [7] not [4]"),
        (lambda t: t.update({"scales.0.stem.bias": torch.zeros(4, dtype=torch.int64)}), "has dtype torch.int64"),
        (lambda t: t.update({"scales.0.stem.bias": torch.zeros(4).half()}), "has dtype torch.float16"),
        (lambda t: t.update({"scales.0.stem.bias": torch.full((4,), torch.nan)}), "NaN or infinite"),
    ],
)
def test_tensors(folder, change, says):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    assert says in complaint(folder)


def test_a_pickle_by_another_name(folder, tmp_path):
    import os
    import pickle

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    (folder / "model.safetensors").write_bytes(pickle.dumps(Hostile()))
    assert "can't read" in complaint(folder) or "header" in complaint(folder)
    (folder / "config.json").write_bytes(pickle.dumps(Hostile()))
    assert "not a JSON file" in complaint(folder)
    assert not (tmp_path / "made").exists()


# configurations

ABSURD: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda d: d["architecture"].update(width=10**9), "width must be between 1 and"),
    (lambda d: d["architecture"].update(width=10_000, multipliers=[10_000]), "at most"),
    (lambda d: d["architecture"].update(width=16_384), "do not fit"),
    (lambda d: d["architecture"].update(blocks=[10**9]), "at most 1000 blocks"),
    (lambda d: d["architecture"].update(blocks=[0] * 10**6, multipliers=[1] * 10**6), "at most 1000 blocks"),
    (lambda d: d["architecture"].update(scales=10**9), "scales must be between"),
    (lambda d: d["architecture"].update(coarse_width=-1), "coarse_width must be between"),
    (lambda d: d["architecture"].update(name="nothing"), "unknown architecture 'nothing'"),
    (lambda d: d["architecture"].update(name="os:system"), "unknown architecture 'os:system'"),
    (lambda d: d["architecture"].update(name="../../etc/passwd"), "unknown architecture"),
    (lambda d: d["architecture"].update(norm="group"), "32 groups"),
    (lambda d: d["recipe"]["data"].update(size=10**9), "size must be between 4 and 1024"),
    (lambda d: d["recipe"]["data"].update(channels=10**9), "channels must be 1 or 3"),
    (lambda d: d["recipe"]["data"].update(channels=3), "do not fit"),
    (lambda d: d["recipe"]["optimizer"].update(lr=float("inf")), "finite"),
    (lambda d: d.update(labels=["x"] * 200_000), "labels"),
    (lambda d: d.update(labels=[["x"]]), "labels"),
    (lambda d: d.update(labels=["a", "b"]), "do not fit"),
    (lambda d: d["sampling"]["sampler"].update(name="builtins:exec"), "unknown sampler"),
    (lambda d: d["sampling"].update(weights="../x"), "unknown recipe section 'weights'"),
]


@pytest.mark.parametrize("number", range(len(ABSURD)))
def test_configurations(folder, number):
    change, says = ABSURD[number]
    changed(folder, change)
    assert says in complaint(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "1" * 10_000, " " * (17 << 20)])
def test_configurations_that_are_hard_to_read(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in complaint(folder)


def test_paths_in_a_configuration_are_never_followed(folder, tmp_path):
    """No path is read from a configuration: where the data was, and what training began with, are only told."""
    trap = tmp_path / "trap"
    trap.mkdir()
    trap.chmod(0)

    def point_outside(document: dict[str, Any]) -> None:
        document["recipe"]["data"]["name"] = f"folder:{trap}"
        document["recipe"]["run"]["init"] = str(trap)
        document["weights"] = str(trap / "model.safetensors")
        document["provenance"]["imported"] = "../../etc/passwd"

    changed(folder, point_outside)
    model = ebmctl.load(folder)
    assert model.sha256()
    assert ebmctl.sample(model, n=1).shape == (1, 1, 8, 8)
    trap.chmod(0o700)


def test_memory_is_bounded(folder):
    """The absurd sizes again, in one process whose memory is watched."""
    good = (folder / "config.json").read_text()
    program = f"""
import json, resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import ebmctl
from ebmctl.errors import EbmctlError
from tests.test_hostile import ABSURD
from pathlib import Path

folder = Path({str(folder)!r})
ebmctl.load(folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for change, says in ABSURD:
    document = json.loads({good!r})
    change(document)
    (folder / "config.json").write_text(json.dumps(document))
    try:
        ebmctl.load(folder)
    except EbmctlError:
        continue
    sys.exit(f"was loaded: {{says}}")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300  # megabytes; a million blocks as text and as numbers are most of it
