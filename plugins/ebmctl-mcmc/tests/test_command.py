"""The samplers in the program."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from ebmctl.cli import app

TINY = (
    "network.width=4 network.blocks=[0] network.multipliers=[1] network.scales=1 network.attention=0 data.size=8 "
    "data.channels=1 objective.steps=2 objective.kl_samples=4 optimizer.batch_size=8 run.steps=3 "
    "sampling.rounds=1 sampling.steps=2 sampling.final_steps=2"
)


def ebmctl(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done.stdout


def test_train_and_sample(tmp_path, monkeypatch):
    """HMC with the KL loss, then MALA on the same model, each with its acceptance."""
    monkeypatch.chdir(tmp_path)
    settings = [argument for pair in TINY.split() for argument in ("--set", pair)]
    run = tmp_path / "run"
    ebmctl("train", "noise", *settings, "--set", "sampler.name=hmc", "--out", str(run))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["sampler_acceptance"] <= 1 and "loss_kl" in line for line in lines)
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["plugins"] == [{"package": "ebmctl-mcmc", "version": "0.1.0", "entries": ["sampler hmc"]}]
    own = json.loads(ebmctl("sample", str(run), "-n", "4", "--json"))
    assert 0 <= own["acceptance"] <= 1
    mala = ["sample", str(run), "-n", "4", "--sampler", "mala", "--set", "step_size=1e-8"]
    assert json.loads(ebmctl(*mala, "--json"))["acceptance"] > 0.9
    assert "acceptance" in ebmctl(*mala)


def test_listed():
    found = json.loads(ebmctl("plugins", "--json"))["plugins"]
    (mine,) = [plugin for plugin in found if plugin["package"] == "ebmctl-mcmc"]
    assert [entry["name"] for entry in mine["entries"]] == ["mala", "hmc"]
    assert mine["problem"] is None
