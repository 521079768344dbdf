"""Several processes on one machine, over gloo."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ebmctl.training.checkpoint import load_checkpoint
from tests.test_cli import process
from tests.test_faults import steps, wait_for

ROOT = Path(__file__).parents[1]


def launch(processes: int, out: Path, module: str = "tests.parallel_worker") -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "-m", module, str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_gradients_of_two_processes_equal_those_of_the_joined_batch(tmp_path):
    launch(1, tmp_path / "1.safetensors")
    launch(2, tmp_path / "2.safetensors")
    one, two = (load_file(tmp_path / f"{processes}.safetensors") for processes in (1, 2))
    assert one["gradient"].abs().max() > 1e-3
    assert torch.allclose(one["gradient"], two["gradient"], atol=1e-6)
    assert two["weights"].shape[0] == 2
    assert torch.equal(two["weights"][0], two["weights"][1])  # after 20 steps
    assert not torch.equal(one["weights"][0], two["weights"][0])


@pytest.mark.slow
def test_metrics_that_are_read_late_lead_two_processes_back_together(tmp_path):
    """Where one of them has diverged; the lines are those of a run that reads each step."""
    launch(2, tmp_path, "tests.late_worker")
    at_once, late = (steps_and_events(tmp_path / name / "metrics.jsonl") for name in ("1", "3"))
    assert at_once == late
    (event,) = (line for line in late if "event" in line)
    assert (event["step"], event["from"]) == (5, 6)
    assert "step 7: in another process" in event["reason"]


def steps_and_events(path: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def rank(number: int) -> int:
    """The process of a rank, found by its environment."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"EBMCTL_TEST=parallel" in environment and f"RANK={number}".encode() in environment:
                return int(entry.name)
    raise AssertionError("no such process")


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_it_resumes_exactly(here, monkeypatch):
    monkeypatch.setenv("EBMCTL_TEST", "parallel")
    two = ["--recipe", "tiny.toml", "--processes", "2", "--device", "cpu"]
    running = process("train", "noise", *two, "--steps", "100000", "--compile", "off", "--out", "run", cwd=here)
    wait_for(here / "run" / "metrics.jsonl", 5, running)
    os.kill(rank(1), signal.SIGKILL)
    _, err = running.communicate(timeout=240)
    assert running.returncode == 1
    assert "resume with: ebmctl train noise --resume run --processes 2" in err.strip().splitlines()[-1]
    have = len((here / "run" / "metrics.jsonl").read_bytes().splitlines())
    alone = process("train", "noise", "--recipe", "tiny.toml", "--device", "cpu", "--resume", "run", cwd=here)
    _, err = alone.communicate(timeout=180)
    assert alone.returncode == 1
    assert "resume with --processes 2" in err
    last = have + 10 - have % 2
    for arguments in (["--resume", "run"], ["--out", "straight"]):
        again = process("train", "noise", *two, *arguments, "--steps", str(last), "--json", cwd=here)
        out, err = again.communicate(timeout=240)
        assert again.returncode == 0, err
        assert json.loads(out.strip().splitlines()[-1])["steps"] == last
    assert steps(here / "run" / "metrics.jsonl") == steps(here / "straight" / "metrics.jsonl")
    states = [load_checkpoint(here / run / "checkpoints" / f"step-{last:09d}")[0] for run in ("run", "straight")]
    assert any(name.startswith("rank1.") for name in states[0])
    assert not torch.equal(states[0]["rank0.generator"], states[0]["rank1.generator"])
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
