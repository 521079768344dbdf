"""Where a model is computed on: `--device` of every command, `load`, and nothing that is left on the CPU by mistake."""

from __future__ import annotations

import pytest
import torch

import ebmctl
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.models.device import best_device, device_of
from ebmctl.training.parallel import check_gpus, make_accelerator
from tests.test_cli import call

COMMANDS = {
    "sample": ["sample", "digits", "-o", "made.png"],
    "compose": ["compose", "smiling", "-o", "made.png"],
    "ood": ["ood", "--in", "digits", "--out", "noise"],
    "evaluate": ["evaluate", "digits"],
    "train": ["train", "digits", "--out", "made"],
}


@pytest.fixture
def gpus(monkeypatch):
    """What this machine has is decided by the test."""

    def have(cuda: bool = False, mps: bool = False) -> None:
        known = {"cpu": True, "cuda": cuda, "mps": mps}
        monkeypatch.setattr("ebmctl.models.device._available", known.__getitem__)

    have()
    return have


@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_is_not_known_is_a_usage_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*COMMANDS[name], "--device", "gpu")
    assert (status, out) == (2, "")
    assert err.splitlines() == ["error: --device must be auto, cpu, cuda or mps, not 'gpu'"]


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_device_that_is_not_there_is_said_before_the_work(name, device, tmp_path, monkeypatch, gpus):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ebmctl.models.model.load_model", lambda _folder: pytest.fail("the weights were read"))
    status, out, err = call(*COMMANDS[name], "--device", device)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == f"error: --device {device}: not available on this machine; try --device cpu"
    assert not list(tmp_path.iterdir())


def test_the_best_device_is_cuda_then_mps_then_the_cpu(gpus):
    assert best_device() == torch.device("cpu")
    gpus(mps=True)
    assert best_device() == device_of("auto") == torch.device("mps")
    gpus(cuda=True, mps=True)
    assert best_device() == torch.device("cuda")
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert device_of("cpu") == torch.device("cpu")


def test_two_processes_need_two_gpus(gpus, tmp_path, monkeypatch):
    """Before any of them starts, and where another program started them."""
    gpus(cuda=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    line = "2 processes need a GPU each, and this machine has 1; try --device cpu"
    for device in ("auto", "cuda"):
        status, out, err = call(*COMMANDS["train"], "--processes", "2", "--device", device)
        assert (status, out, err) == (1, "", f"error: {line}\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(EbmctlError, match=line):
        make_accelerator("cuda")
    make_accelerator("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    check_gpus(torch.device("cuda"), 2)
    assert not list(tmp_path.iterdir())


def test_python_names_devices_as_the_commands_do(model, gpus):
    assert ebmctl.load(model).device == torch.device("cpu")
    with pytest.raises(EbmctlError, match="--device cuda: not available on this machine; try --device cpu"):
        ebmctl.load(model, "cuda")
    with pytest.raises(UsageError, match="the device must be auto, cpu, cuda or mps, not 'gpu'"):
        ebmctl.load(model, "gpu")


def test_load_takes_the_best_device_by_default(model, monkeypatch):
    monkeypatch.setattr("ebmctl.models.device.best_device", lambda: torch.device("meta"))
    assert ebmctl.load(model).device.type == "meta"
    assert ebmctl.load(model, "cpu").device.type == "cpu"
