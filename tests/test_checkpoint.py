"""Files that are broken, and writing that is interrupted."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import ebmctl
from ebmctl import files
from ebmctl.errors import EbmctlError
from ebmctl.models import folder as checkpoint
from ebmctl.models.folder import ModelConfig, build_network, save_model
from tests.test_run import recipe


@pytest.fixture
def folder(tmp_path):
    config = ModelConfig(recipe(), (), {"steps": 0})
    save_model(tmp_path / "model", config, build_network(config.recipe.network, 1, 0).state_dict(), "# card\n")
    return tmp_path / "model"


def test_a_model_can_be_read_by_whom_the_umask_lets(tmp_path, folder):
    (tmp_path / "other").touch()
    modes = {item.stat().st_mode for item in folder.iterdir()}
    assert modes == {(tmp_path / "other").stat().st_mode}


def test_missing_and_wrong_models(tmp_path, folder):
    with pytest.raises(EbmctlError, match="there is no model"):
        ebmctl.load(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EbmctlError, match="not a model folder"):
        ebmctl.load(tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EbmctlError, match="can't read"):
        ebmctl.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"labels": 3}, "not a model's configuration"),
        ({"recipe": None}, "not a model's configuration"),
        ({"architecture": {"name": "residual", "width": 8}}, "do not fit"),
        ({"architecture": {"name": "nothing"}}, "unknown architecture"),
        ({"architecture": {"name": "residual", "wdth": 8}}, "did you mean"),
    ],
)
def test_altered_configurations_are_named(folder, change, message):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EbmctlError, match=message) as caught:
        ebmctl.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\x00"])
def test_configurations_that_are_no_objects(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(EbmctlError, match=r"config\.json"):
        ebmctl.load(folder)


def test_truncated_weights(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 7, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(EbmctlError, match=r"model\.safetensors"):
            ebmctl.load(folder)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(EbmctlError, match="do not fit"):
        ebmctl.load(folder)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def interrupted():
        with files.atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_an_interrupted_folder_leaves_the_old_one(folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", fail)
    with pytest.raises(EbmctlError, match="No space left"):
        save_model(folder, ModelConfig(recipe(), (), {}), nn.Linear(1, 1).state_dict(), "")
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_replacing_a_folder(folder):
    config = ModelConfig(recipe(), (), {"steps": 7})
    save_model(folder, config, build_network(config.recipe.network, 1, 0).state_dict(), "# other\n")
    assert ebmctl.load(folder).config.provenance == {"steps": 7}
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_writable_is_checked_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EbmctlError, match="can't write"):
        files.check_writable(tmp_path / "file" / "out.png")
    with pytest.raises(EbmctlError, match="it is a folder"):
        files.check_writable(tmp_path)
    files.check_writable(tmp_path / "new" / "out.png")
