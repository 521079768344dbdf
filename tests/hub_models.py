"""Tiny models, straight into a repository of the Hub on loopback."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ebmctl.config.parts import Part
from ebmctl.core.config import MatchingConfig
from ebmctl.models.folder import ModelConfig, build_network, save_model
from tests.hub_server import Hub
from tests.test_cli import call
from tests.test_run import recipe


def saved(folder: Path, steps: int, *changes: str) -> Path:
    torch.manual_seed(steps)
    matched = Part("energy-matching", MatchingConfig())
    config = ModelConfig(
        replace(recipe(*changes), objective=matched), (), {"ebmctl": "0.1.0", "steps": steps, "seconds": 1.0}
    )
    save_model(folder, config, build_network(config.recipe.network, config.shape[0], 0).state_dict(), "# card\n")
    return folder


def put(hub: Hub, name: str, folder: Path, private: bool = False) -> str:
    """A model folder straight into a repository; gives the revision."""
    return hub.commit(name, {item.name: item.read_bytes() for item in folder.iterdir()}, private)


def error_of(*arguments: str) -> str:
    """The one line of an error, of status 1 and with nothing on standard output."""
    status, out, err = call(*arguments)
    assert (status, out) == (1, ""), err
    (line,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert "Traceback" not in err
    return line
