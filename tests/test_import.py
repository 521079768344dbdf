"""Importing the authors' checkpoints: the energies stay the same, nothing is run, nothing is passed over in silence."""

from __future__ import annotations

import json
import os
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

import ebmctl
from ebmctl.authors.networks import recognise
from ebmctl.authors.torch_file import read_checkpoint
from ebmctl.core.nets.residual import ResidualEnergy
from tests import authors_program as theirs
from tests.test_authors import with_pickle
from tests.test_cli import call
from tests.test_reference import FOLDER

SIZES = {"cifar": 32, "celeba": 64, "mnist": 28}  # the network for 128 pixels takes any size


class EasyDict(dict):
    """Pickles as the settings of the authors' checkpoints do."""

    __module__ = "easydict"


def written(path: Path, state: dict[str, Tensor], legacy: bool = False, **flags: object) -> Path:
    """A checkpoint as their program writes it."""
    given_flags = EasyDict({"dataset": "celeba", "step_lr": 100.0, **flags})
    EasyDict.__qualname__ = "EasyDict"
    sys.modules["easydict"] = module = types.ModuleType("easydict")
    module.EasyDict = EasyDict
    try:
        other = {name: tensor + 1 for name, tensor in state.items()}
        content = {
            "optimizer_state_dict": {"state": {0: {"exp_avg": torch.zeros(3)}}},
            "FLAGS": given_flags,
            "best_inception": 2.5,
            "model_state_dict_0": OrderedDict(other),
            "ema_model_state_dict_0": OrderedDict(state),
        }
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    finally:
        del sys.modules["easydict"]
    return path


@pytest.mark.parametrize("multiscale", [True, False])
@pytest.mark.parametrize(
    ("kind", "width", "classes", "options"),
    [
        ("cifar", 8, 10, {}),
        ("cifar", 16, 10, {"cond": True}),
        ("cifar", 8, 10, {"self_attn": False}),
        ("cifar", 8, 10, {"spec_norm": True}),
        ("cifar", 8, 10, {"norm": False}),
        ("celeba", 16, 2, {"cond": True}),
        ("celeba", 16, 2, {"spec_norm": True, "self_attn": False}),
        ("celeba", 16, 2, {"norm": False, "cond": True}),
        ("celeba", 16, 1000, {"cond": True}),  # ImageNet's
        pytest.param("celeba", 160, 2, {"cond": True}, marks=pytest.mark.slow),  # with group norm
    ],
)
def test_energies_are_the_authors(kind, width, classes, options, multiscale):
    flags = {"self_attn": True, "cond": False, "spec_norm": False, "norm": True, **options}
    state = theirs.tensors(
        kind, width, classes=classes, multiscale=multiscale, spectral=flags["spec_norm"], norm=flags["norm"]
    )
    found = recognise(state, flags)
    assert (found.missing, found.unexpected, found.stale) == ([], [], 0)
    network = ResidualEnergy(found.config, found.channels, found.labels)
    network.load_state_dict(found.state)
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(3, 3, SIZES[kind], SIZES[kind], generator=draw)
    label = torch.eye(classes)[[0, 1, classes - 1]] if flags["cond"] else None
    expected = theirs.energies(state, kind, width, x, label, multiscale=multiscale, attention=flags["self_attn"])
    assert expected.shape == (3, 3 if multiscale else 1)
    assert expected.std(0).min() > 1e-4  # they tell the images apart, so the comparison means something
    scale = max(1.0, float(expected.abs().max()))  # without norms they reach 1e8
    torch.testing.assert_close(network.eval().terms(x, label).flip(1), expected, atol=1e-5 * scale, rtol=0)


def test_mnist():
    state = theirs.tensors("mnist", 8, classes=512)
    found = recognise(state, {"cond": False, "self_attn": True})
    assert (found.kind, found.missing, found.unexpected) == ("MNIST", [], [])
    conditional = recognise(state, {"cond": True})  # their program can't run it: the label map has another size
    assert "map_fc1.weight" in conditional.unexpected


def test_without_flags_the_attention_is_known_by_its_scale():
    state = theirs.tensors("cifar", 8, classes=10)
    assert recognise(state).config.attention == 2
    assert recognise({**state, "self_attn.gamma": torch.zeros(1)}).config.attention == 0


def test_spectral_norms_that_were_never_kept_up_to_date():
    """The authors average parameters only, so their averaged model has the vectors that it was made with."""
    state = theirs.tensors("cifar", 8, classes=10, multiscale=False, spectral=True)
    fresh = recognise(state)
    draw = torch.Generator().manual_seed(2)
    for name in state:
        if name.endswith(("weight_u", "weight_v")):
            state[name] = torch.nn.functional.normalize(torch.randn(state[name].shape, generator=draw), dim=0)
    stale = recognise(state)
    assert stale.stale == 16
    for name in (name for name in fresh.state if name.endswith(".original")):
        matrix, base = fresh.state[name].flatten(1), name.removesuffix("original")
        u, v = (stale.state[f"{base}0._{part}"] for part in "uv")
        assert torch.dot(u, matrix @ v) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=0.01)


@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_the_reference_as_a_model_folder(name, tmp_path):
    if not FOLDER.is_dir() and not os.environ.get("CI"):
        pytest.skip(f"left out: the authors' checkpoints are not here ({FOLDER})")
    expected = load_file(FOLDER / f"{name}.expected.safetensors")
    for weights in ("ema", "model"):
        target = str(tmp_path / weights)
        status, out, err = call(
            "zoo", "import", str(FOLDER / f"{name}.pth"), "--recipe", name, "-o", target, "--weights", weights, "--json"
        )
        assert status == 0, err
        assert json.loads(out)["output"] == target
        model = ebmctl.load(target)
        assert model.recipe.sampler.options.step_size == 100.0  # the checkpoint's own, not the recipe's
        terms = model.terms(expected["x"])
        assert (terms.flip(1) - expected[f"{weights}_energy"]).abs().max() < 1e-5
        card = (tmp_path / weights / "README.md").read_text()
        assert "license: unknown" in card
        assert "None steps" not in card


@pytest.mark.parametrize("legacy", [False, True])
def test_both_file_formats_and_labels(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    state = theirs.tensors("celeba", 16, classes=2)
    file = written(tmp_path / "x.pth", {f"module.{k}": v for k, v in state.items()}, legacy, cond=True, self_attn=True)
    command = ["zoo", "import", str(file), "--recipe", "celebahq128", "-o", "smiling"]
    status, _, err = call(*command)
    assert (status, "give --label ATTRIBUTE" in err) == (2, True)
    assert not (tmp_path / "smiling").exists()
    status, out, err = call(*command, "--label", "Smiling")
    assert status == 0, err
    assert "CelebA-HQ" in out
    model = ebmctl.load("smiling")
    assert model.config.labels == ("not Smiling", "Smiling")
    x = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    expected = theirs.energies(state, "celeba", 16, x, torch.eye(2)[[1, 1]], multiscale=True, attention=True)
    torch.testing.assert_close(model.terms(x, "Smiling").flip(1), expected, atol=1e-5, rtol=1e-5)
    status, _, err = call(*command, "--label", "Smiling")
    assert (status, "already exists" in err) == (1, True)


def test_objects_are_conditioned_on_two_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = theirs.tensors("celeba", 16, classes=2)
    file = written(tmp_path / "x.pth", state, cond=True, self_attn=True, dataset="object", cond_idx=1)
    status, _, err = call("zoo", "import", str(file), "--recipe", "celebahq128", "-o", "position")
    assert status == 0, err
    model = ebmctl.load("position")
    assert model.config.labels == ("x", "y")
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    place = torch.tensor([[0.3, 0.8], [0.5, 0.1]])
    expected = theirs.energies(state, "celeba", 16, x, place, multiscale=True, attention=True)
    torch.testing.assert_close(model.network.terms(x, place).flip(1), expected, atol=1e-5, rtol=1e-5)


def test_gaps_and_leftovers_are_named_and_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = theirs.tensors("cifar", 8, classes=10)
    del state["res_2a.conv1.bias"]
    state["res_3b.conv2.weight"] = state["res_3b.conv2.weight"][:, :4]
    state["extra.weight"] = torch.zeros(1)
    file = written(tmp_path / "x.pth", state, self_attn=True, sigmoid=True)
    command = ["zoo", "import", str(file), "--recipe", "cifar10", "-o", "made"]
    status, out, err = call(*command)
    assert (status, out) == (1, "")
    for line in (
        "missing: res_2a.conv1.bias",
        "missing: res_3b.conv2.weight (16, 4, 3, 3) instead of (16, 16, 3, 3)",
        "left over: extra.weight",
        "left over: FLAGS.sigmoid",
        "2 tensors are missing and 2 left over",
    ):
        assert line in err
    assert not (tmp_path / "made").exists()
    status, out, err = call(*command, "--allow-partial", "--json")
    assert status == 0, err
    assert json.loads(out)["left_over"] == ["extra.weight", "FLAGS.sigmoid"]
    first = (tmp_path / "made" / "model.safetensors").read_bytes()
    assert call(*command[:-1], "again", "--allow-partial")[0] == 0
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def whole(request, tmp_path_factory) -> bytes:
    """A small checkpoint of the authors' kind, scores of NumPy's included."""
    state = theirs.tensors("cifar", 1, classes=10, multiscale=False)
    path = tmp_path_factory.mktemp("whole") / "x.pth"
    return written(path, state, request.param, best=np.float64(2.5)).read_bytes()


@given(st.data())
@settings(deadline=10_000, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_checkpoint_is_read_or_refused(tmp_path, whole, data):
    """Some bytes are others, half of them in the pickle; or the end is missing. Each in bounded time."""
    damaged, start = bytearray(whole), whole.index(b"optimizer_state_dict")
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.one_of(st.integers(0, len(whole) - 1), st.integers(start, start + 4000)))
        damaged[at] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole)))) :]
    path = tmp_path / "x.pth"
    path.write_bytes(damaged)
    try:
        content = read_checkpoint(path, skip=("optimizer_state_dict",))
    except ValueError as error:
        assert "x.pth" in str(error)
        assert "\n" not in str(error)
    else:
        assert isinstance(content, dict)
        assert damaged != whole or content["FLAGS"]["step_lr"] == 100.0


class Hostile:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_archive_is_refused_by_name(tmp_path, protocol, legacy):
    content = {"ema_model_state_dict_0": {}, "FLAGS": Hostile(tmp_path / "made")}
    file = tmp_path / "x.pth"
    if legacy:
        parts = (0x1950A86A20F9469CFC6C, 1001, {}, content, [])
        file.write_bytes(b"".join(pickle.dumps(part, protocol=protocol) for part in parts))
    else:
        file.write_bytes(with_pickle(pickle.dumps(content, protocol=protocol)))
    status, _, err = call("zoo", "import", str(file), "--recipe", "cifar10", "-o", str(tmp_path / "model"))
    assert status == 1
    line = err.strip().splitlines()[-1]
    assert line.startswith("error:")
    assert "it calls posix.mkdir" in line or "it calls nt.mkdir" in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.pth"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "neither a zip file nor a pickle"),
        (b"\x80\x02K\x01.", "another kind of pickle"),
        (with_pickle(pickle.dumps([1], protocol=2)), "no dictionary"),
        (with_pickle(pickle.dumps({"FLAGS": {}}, protocol=2)), "no ema_model_state_dict_0"),
        (with_pickle(pickle.dumps({"ema_model_state_dict_0": {}}, protocol=2)), "no conv1"),
    ],
)
def test_other_files(tmp_path, content, complaint):
    file = tmp_path / "x.pth"
    file.write_bytes(content)
    status, _, err = call("zoo", "import", str(file), "--recipe", "cifar10", "-o", str(tmp_path / "model"))
    assert (status, complaint in err, str(file) in err) == (1, True, True), err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        (["none.pth", "--recipe", "cifar10"], 1, "there is no file none.pth"),
        (["x.pth", "--recipe", "cifar"], 2, "did you mean 'cifar10'"),
        (["x.pth", "--recipe", "default"], 2, "has no dataset"),
        (["x.pth", "--recipe", "mnist"], 2, "images of 3 channels"),
        (["x.pth", "--recipe", "cifar10", "--label", "cat"], 2, "unconditional"),
        (["x.pth", "--recipe", "cifar10", "--weights", "best"], 2, "--weights must be ema or model"),
    ],
)
def test_wrong_uses(tmp_path, monkeypatch, arguments, status, complaint):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "x.pth", theirs.tensors("cifar", 8, classes=10, multiscale=False))
    found, out, err = call("zoo", "import", *arguments)
    assert (found, out, complaint in err) == (status, "", True), err
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]
