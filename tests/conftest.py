"""Shared by all tests."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import tomli_w
import torch
from hypothesis import HealthCheck, settings

from tests import device
from tests.hub_server import WRITER, Hub, running_hub

for variable in ("EBMCTL_SET", "EBMCTL_ZOO", "HF_TOKEN", "HF_HUB_OFFLINE"):
    os.environ.pop(variable, None)
os.environ["EBMCTL_PLUGINS"] = ""  # what else is installed here is not under test
# huggingface_hub reads these when it is imported; nothing listens at that address, and nobody's token lies there
os.environ |= {
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_HOME": str(Path(tempfile.gettempdir()) / "ebmctl-tests-have-no-home"),
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # exact on a GPU
}
torch.set_num_threads(1)  # tests run in parallel
# how long a draw takes says nothing of the code where machines are shared
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Weights that a test makes are the same whatever ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def own_settings() -> None:
    """On a GPU what a test sets for its process is not there in the next; results are exact, as they are on a CPU."""
    if torch.device("cpu") == device.DEVICE:
        return
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)  # it knows one device
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.fixture
def on_device() -> Iterator[None]:
    """New tensors are on the tests' device."""
    if torch.device("cpu") == device.DEVICE:
        yield
        return
    with device.DEVICE:
        yield


@pytest.fixture
def generator(on_device) -> torch.Generator:
    return device.seeded()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a tiny recipe."""
    from ebmctl.config.recipe import resolve
    from tests.test_run import TINY

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tomli_w.dumps(resolve("noise", None, TINY, {}).to_mapping()))
    return tmp_path


@pytest.fixture
def model(tmp_path) -> Path:
    """A tiny model folder."""
    from tests.hub_models import saved

    return saved(tmp_path / "model", 0)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[Hub]:
    """A Hub on loopback, a token that writes to it as ada, and an empty cache."""
    with running_hub() as started:
        monkeypatch.setenv("HF_ENDPOINT", started.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", WRITER)
        impatient = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})  # the client waits between its tries
        monkeypatch.setattr("huggingface_hub.utils._http.time", impatient)
        monkeypatch.setattr("huggingface_hub.file_download.time", impatient)
        yield started


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder of installed packages; all plugins that are found are loaded."""
    from tests.plugin_site import forget

    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delenv("EBMCTL_PLUGINS")
    monkeypatch.delenv("EBMCTL_STRICT_PLUGINS", raising=False)
    before = set(sys.modules)
    forget()
    yield folder
    forget()
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def only(monkeypatch) -> Callable[..., None]:
    """Names the plugins to load, so that others that are installed where the tests run do not matter."""
    from tests.plugin_site import forget

    def choose(*names: str) -> None:
        monkeypatch.setenv("EBMCTL_PLUGINS", ",".join(names))
        forget()

    return choose
