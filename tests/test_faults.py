"""What a run survives: SIGKILL at any moment, SIGTERM, a full disk."""

from __future__ import annotations

import json
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
import tomli_w
import torch

from ebmctl.config.recipe import resolve
from ebmctl.errors import EbmctlError
from ebmctl.training.checkpoint import load_checkpoint
from ebmctl.training.folder import check_disk
from tests.test_cli import process
from tests.test_run import TINY, trainer


def wait_for(metrics: Path, lines: int, running: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= lines):
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def steps(metrics: Path) -> list[dict]:
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    for line in lines:
        line.pop("seconds")
    return lines


@pytest.mark.slow
def test_killed_at_ten_random_moments(here):
    """A checkpoint a step, with a large buffer: some of the kills come while one is being written."""
    changes = ["run.checkpoint_every=1", "run.steps=400", "objective.buffer_size=20000", "data.size=16"]
    (here / "kill.toml").write_text(tomli_w.dumps(resolve("noise", None, [*TINY, *changes], {}).to_mapping()))
    straight = process("train", "noise", "--recipe", "kill.toml", "--out", "straight", cwd=here)
    draw = random.Random(0)
    for kill in range(10):
        again = (
            ["--resume", "run"] if kill and list((here / "run" / "checkpoints").glob("step-*")) else ["--out", "run"]
        )
        running = process("train", "noise", "--recipe", "kill.toml", *again, cwd=here)
        have = len((here / "run" / "metrics.jsonl").read_bytes().splitlines()) if kill else 0
        wait_for(here / "run" / "metrics.jsonl", min(have, 1) + 1, running)
        time.sleep(draw.uniform(0, 0.6))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        assert running.returncode in (-signal.SIGKILL, 0)
    last = process("train", "noise", "--resume", "run", cwd=here)
    _, err = last.communicate(timeout=180)
    assert last.returncode == 0, err
    assert straight.wait(timeout=180) == 0
    assert steps(here / "straight" / "metrics.jsonl") == steps(here / "run" / "metrics.jsonl")
    whole, resumed = (load_checkpoint(here / run / "checkpoints" / "step-000000400") for run in ("straight", "run"))
    assert whole[1] == resumed[1]
    assert all(torch.equal(tensor, resumed[0][name]) for name, tensor in whole[0].items())
    assert not list((here / "run").rglob(".*"))  # nothing half-written is left


def test_sigterm_saves_and_ends(here):
    running = process(
        "train", "noise", "--recipe", "tiny.toml", "--steps", "100000", "--compile", "off", "--out", "run", cwd=here
    )
    wait_for(here / "run" / "metrics.jsonl", 3, running)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=180)
    assert running.returncode == 143
    assert "resume with: ebmctl train noise --resume run" in err
    newest = sorted((here / "run" / "checkpoints").glob("step-*"))[-1]
    assert load_checkpoint(newest)[1]["step"] == len((here / "run" / "metrics.jsonl").read_text().splitlines())


def test_full_disk_keeps_the_checkpoint_before(here):
    """A limit on the size of a file stands in for a full disk: the growing buffer runs into it."""
    changes = ["run.checkpoint_every=5", "run.steps=1000", "objective.buffer_size=20000", "data.size=16"]
    (here / "full.toml").write_text(tomli_w.dumps(resolve("noise", None, [*TINY, *changes], {}).to_mapping()))
    limit = 60_000

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    running = process("train", "noise", "--recipe", "full.toml", "--out", "run", cwd=here, preexec_fn=small)
    _, err = running.communicate(timeout=180)
    assert running.returncode == 1
    assert err.strip().splitlines()[-1].startswith("error: can't write run/")
    assert "Traceback" not in err
    assert sorted((here / "run" / "checkpoints").glob("step-*"))[-1].name > "step-000000000"
    resumed = process("train", "noise", "--resume", "run", "--steps", "40", cwd=here)
    _, err = resumed.communicate(timeout=180)
    assert resumed.returncode == 0, err


def test_disk_need_is_checked_before_the_run(tmp_path, monkeypatch):
    made = trainer()
    assert "MB are free" in check_disk(made, tmp_path / "run")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(EbmctlError, match="not enough disk space"):
        check_disk(made, tmp_path / "run")
