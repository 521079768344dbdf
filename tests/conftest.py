"""Shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.pop("EBMCTL_SET", None)
os.environ["EBMCTL_PLUGINS"] = ""  # what else is installed here is not under test
torch.set_num_threads(1)  # tests run in parallel


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a tiny recipe."""
    from ebmctl import settings
    from ebmctl.recipe import resolve
    from tests.test_run import TINY

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(settings.dump_toml(resolve("noise", None, TINY, {}).to_mapping()))
    return tmp_path
