"""Shared by all tests."""

from __future__ import annotations

import os

import pytest
import torch

os.environ.pop("EBMCTL_SET", None)
torch.set_num_threads(1)  # tests run in parallel


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
