"""Parity with the authors' program, on checkpoints and energies that it wrote."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ebmctl.authors.networks import recognise
from ebmctl.authors.torch_file import read_checkpoint
from ebmctl.core.energy import frozen
from ebmctl.core.nets.residual import ResidualEnergy

FOLDER = Path(os.environ.get("EBMCTL_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


@pytest.fixture(autouse=True)
def _reference() -> None:
    if not FOLDER.is_dir() and not os.environ.get("CI"):
        pytest.skip(f"left out: the authors' checkpoints are not here (EBMCTL_REFERENCE, or {FOLDER})")


@pytest.mark.parametrize("weights", ["model", "ema"])
@pytest.mark.parametrize("name", ["cifar10", "mnist"])
def test_energies_and_gradients_equal_the_authors(name, weights):
    theirs = read_checkpoint(FOLDER / f"{name}.pth")
    expected = load_file(FOLDER / f"{name}.expected.safetensors")
    prefix = "ema_" if weights == "ema" else ""
    found = recognise(theirs[f"{prefix}model_state_dict_0"], theirs["FLAGS"])
    assert (found.missing, found.unexpected) == ([], [])
    network = ResidualEnergy(found.config, channels=expected["x"].shape[1])
    network.load_state_dict(found.state)
    for candidate in (network, frozen(network)):
        x = expected["x"].clone().requires_grad_()
        terms = candidate.terms(x)
        (gradient,) = torch.autograd.grad(terms.sum(), x)
        reference = expected[f"{weights}_grad"]
        assert (terms.flip(1) - expected[f"{weights}_energy"]).abs().max() < 1e-5  # theirs has the coarse scale first
        assert (gradient - reference).norm() < 1e-4 * reference.norm()
        assert (gradient - reference).abs().max() < 1e-4 * reference.abs().max()


def test_settings_are_read_without_running_the_pickle():
    flags = read_checkpoint(FOLDER / "cifar10.pth")["FLAGS"]
    assert flags["filter_dim"] == 8
    assert flags["multiscale"] is True
