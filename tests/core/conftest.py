"""What is tested here is plain torch: all of it is computed on the tests' device."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def everything_there(on_device) -> None:
    pass
