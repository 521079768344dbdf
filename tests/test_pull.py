"""Models of a Hub on loopback by the real client: pins, the cache, and what can break."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import ebmctl
from ebmctl.files import sha256
from ebmctl.models import hub as hubs
from tests.hub_models import error_of, put, saved
from tests.hub_server import Fault
from tests.test_cli import call, process


def halves(tmp_path: Path) -> list[Path]:
    """What the cache holds that looks like a whole file at a wrong size."""
    return [p for p in (tmp_path / "cache").rglob("blobs/*") if not p.name.endswith(".incomplete")]


def test_pins(hub, here, model):
    first = put(hub, "ada/toy", model)
    put(hub, "ada/toy", saved(here / "newer", 1))
    pinned = json.loads(call("zoo", "pull", f"ada/toy@{first}", "--json")[1])
    assert (pinned["revision"], pinned["sha256"]) == (first, sha256(model / "model.safetensors"))
    newest = json.loads(call("zoo", "pull", "ada/toy", "--json")[1])
    assert newest["revision"] == hub.repos["ada/toy"].head != first
    assert "has no such revision" in error_of("sample", "ada/toy@" + "0" * 40)
    assert "has no such revision" in error_of("sample", "ada/toy@v9")


def test_a_pinned_model_needs_no_connection_again(hub, here, model):
    revision = put(hub, "ada/toy", model)
    assert call("zoo", "pull", f"ada/toy@{revision}")[0] == 0
    hub.requests.clear()
    assert ebmctl.load(f"ada/toy@{revision}").shape == (1, 8, 8)
    assert hub.requests == []


def test_offline(hub, here, model, monkeypatch):
    revision = put(hub, "ada/toy", model)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "ada/toy is not in the cache, or only in part, and offline mode" in error_of("sample", "ada/toy")
    assert "can't be pushed in offline mode" in error_of("push", str(model), "ada/toy", "--samples", "0")
    assert hub.requests == []
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert call("zoo", "pull", "ada/toy")[0] == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert ebmctl.load("ada/toy").shape == ebmctl.load(f"ada/toy@{revision}").shape == (1, 8, 8)
    assert hub.requests == []


def test_no_connection(hub, here, model, monkeypatch):
    put(hub, "ada/toy", model)
    assert call("zoo", "pull", "ada/toy")[0] == 0
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    assert ebmctl.load("ada/toy").shape == (1, 8, 8)  # from the cache
    assert "the connection to the Hub failed for ada/other" in error_of("sample", "ada/other")
    assert "the connection to the Hub failed for ada/new" in error_of("push", str(model), "ada/new", "--samples", "0")


def test_a_mistyped_path_is_not_sent_to_the_hub(hub, here):
    (here / "runs").mkdir()
    assert "runs has no 00000-digit;" in error_of("sample", "runs/00000-digit")
    assert hub.requests == []


def test_other_repositories(hub, here):
    hub.commit("ada/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"x" * 1000})
    assert "ada/bert is not an ebmctl model: its config.json is of another kind" in error_of("sample", "ada/bert")
    assert not [path for _, path in hub.requests if path.endswith(".safetensors")]  # nothing large came
    hub.commit("ada/empty", {"README.md": b"# hello"})
    assert "ada/empty is not an ebmctl model: it has no config.json" in error_of("sample", "ada/empty")


def test_a_download_that_is_cut_goes_on_where_it_ended(hub, here, model):
    put(hub, "ada/toy", model)
    hub.faults = [Fault("GET", "model.safetensors", "cut", 1, 700)]
    assert ebmctl.load("ada/toy").sha256() == sha256(model / "model.safetensors")


def test_a_download_that_never_ends_leaves_nothing_half_written(hub, here, model, tmp_path):
    put(hub, "ada/toy", model)
    hub.faults = [Fault("GET", "model.safetensors", "cut", 99, 0)]
    assert "the connection to the Hub failed for ada/toy" in error_of("zoo", "pull", "ada/toy")
    assert {path.stat().st_size for path in halves(tmp_path)} == {(model / "config.json").stat().st_size}
    hub.faults = []
    assert ebmctl.load("ada/toy").sha256() == sha256(model / "model.safetensors")


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_that_fails(hub, here, model, status):
    put(hub, "ada/toy", model)
    hub.faults = [Fault(method, "/ada/toy/resolve", status, 99) for method in ("HEAD", "GET")]
    assert f"the Hub failed ({status}) for ada/toy" in error_of("zoo", "pull", "ada/toy")


def test_weights_that_are_altered_on_their_way(hub, here, model):
    """The client checks sizes only; the altered byte is found by its checksum, and the next try gets it whole."""
    put(hub, "ada/toy", model)
    hub.faults = [Fault("GET", "model.safetensors", "alter", 1)]
    assert "model.safetensors of ada/toy was corrupted in transit" in error_of("sample", "ada/toy")
    assert ebmctl.load("ada/toy").sha256() == sha256(model / "model.safetensors")


def test_weights_of_another_checksum(hub, here, model):
    revision = put(hub, "ada/toy", model)
    entry = '[models."residual.toy"]\nkind = "generator"\ndataset = "noise"\nrecipe = "default"\nshape = [1, 8, 8]\n'
    Path("zoo.toml").write_text(entry + f'repo = "ada/toy"\nrevision = "{revision}"\nsha256 = "{"0" * 64}"\n')
    assert "do not have the expected checksum" in error_of("sample", "residual.toy")
    status, out, err = call("zoo", "verify", "--json")
    assert (status, json.loads(out)["models"][0]["ok"]) == (1, False)
    assert "models have a wrong checksum: residual.toy" in err


def test_a_cached_file_that_is_altered_later(hub, here, model, tmp_path):
    revision = put(hub, "ada/toy", model)
    assert call("zoo", "pull", f"ada/toy@{revision}")[0] == 0
    blob = tmp_path / "cache" / "models--ada--toy" / "blobs" / sha256(model / "model.safetensors")
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    assert "corrupted in transit or in the cache" in error_of("sample", f"ada/toy@{revision}")
    assert ebmctl.load(f"ada/toy@{revision}").sha256() == sha256(model / "model.safetensors")


def test_two_pulls_at_once(hub, here, model):
    put(hub, "ada/toy", model)
    pulls = [process("zoo", "pull", "ada/toy", "--json", cwd=here) for _ in range(2)]
    for pull in pulls:
        out, err = pull.communicate(timeout=120)
        assert pull.returncode == 0, err
        assert json.loads(out)["sha256"] == sha256(model / "model.safetensors")


def test_a_pull_that_is_killed(hub, here, model, tmp_path):
    """The server never sends the end of the weights; nothing that looks whole is left, and the next pull works."""
    put(hub, "ada/toy", model)
    hub.faults = [Fault("GET", "model.safetensors", "hang", 1, 700)]
    pull = process("zoo", "pull", "ada/toy", cwd=here)
    deadline = time.monotonic() + 60
    while hub.faults[0].times:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pull.kill()
    pull.communicate()
    assert sha256(model / "model.safetensors") not in {path.name for path in halves(tmp_path)}
    assert ebmctl.load("ada/toy").sha256() == sha256(model / "model.safetensors")


def test_two_threads_at_once(hub, here, model):
    put(hub, "ada/toy", model)
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(ebmctl.load("ada/toy").sha256())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [sha256(model / "model.safetensors")] * 4


def test_a_full_disk(hub, here, tmp_path):
    """A limit on the size of files stands in for it: the write fails in the middle, the same way."""
    folder = saved(tmp_path / "large", 0, "network.width=32")
    put(hub, "ada/toy", folder)
    limit = (folder / "model.safetensors").stat().st_size // 2
    program = (
        f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "import sys\nfrom ebmctl.cli import main\nsys.argv = ['ebmctl', 'zoo', 'pull', 'ada/toy']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "error: can't write ada/toy into the Hub's cache: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sha256(folder / "model.safetensors") not in {path.name for path in halves(tmp_path)}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != limit
    assert ebmctl.load("ada/toy").sha256() == sha256(folder / "model.safetensors")


def test_the_server_is_what_it_says(hub, model):
    """The weights' address is the checksum that we check."""
    put(hub, "ada/toy", model)
    folder = hubs.fetch("ada/toy")
    blob = (folder / "model.safetensors").resolve()
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
