"""Images generated to be measured, results side by side, and the command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

import ebmctl
from ebmctl.errors import EbmctlError
from ebmctl.evaluation import evaluate, generation
from ebmctl.evaluation.extractors import ClassifierExtractor
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.results import compare
from tests.projection import Projection
from tests.test_cli import call

FEW = {"rounds": 1, "steps": 1, "final_steps": 0, "flow_steps": 1}


@pytest.fixture
def digits():
    return ebmctl.load("digits")


def drawn(model, keep: Path | None, **options) -> torch.Tensor:
    plan = model.recipe.sampling_plan(**{**FEW, **options.pop("changes", {})})
    generation = Generation(plan, **{"n": 7, "batch": 3, **options})
    return torch.cat(list(generation.pixels(model, keep, lambda *_: None)))


def test_generation_is_resumed(digits, tmp_path, monkeypatch):
    whole = drawn(digits, None)
    assert whole.shape == (7, 1, 16, 16)
    assert whole.dtype == torch.uint8
    few = Generation(digits.recipe.sampling_plan(**FEW), n=7, batch=3)
    calls = []
    batches = few.pixels(digits, tmp_path / "kept", lambda done, n: calls.append((done, n)))
    next(batches), next(batches)
    batches.close()  # interrupted
    assert calls == [(3, 7)]
    assert len(list((tmp_path / "kept").rglob("*.png"))) == 6
    asked = []
    samples = generation.sample_batches
    monkeypatch.setattr(
        generation, "sample_batches", lambda model, plan, n, *a: asked.append(n) or samples(model, plan, n, *a)
    )
    assert torch.equal(drawn(digits, tmp_path / "kept"), whole)
    assert asked == [1]
    assert torch.equal(drawn(digits, tmp_path / "kept", n=8)[:6], whole[:6])  # more of the same
    assert asked == [1, 2]
    assert not torch.equal(drawn(digits, None, seed=1), whole)


def test_a_folder_of_other_images(digits, tmp_path):
    drawn(digits, tmp_path / "kept")
    for options in ({"seed": 1}, {"batch": 2}, {"changes": {"rounds": 2}}):
        with pytest.raises(EbmctlError, match="another model, seed, batch or recipe"):
            drawn(digits, tmp_path / "kept", **options)
    (tmp_path / "other").mkdir()
    Image.new("L", (3, 3)).save(tmp_path / "other" / "holiday.png")
    with pytest.raises(EbmctlError, match="is not empty"):
        drawn(digits, tmp_path / "other")
    broken = next((tmp_path / "kept").rglob("*.png"))
    broken.write_bytes(b"half")
    with pytest.raises(EbmctlError, match="delete that folder"):
        drawn(digits, tmp_path / "kept")


@pytest.fixture
def fake(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = ClassifierExtractor("projection", Projection())
    monkeypatch.setattr(evaluate, "find_extractor", lambda *_: found)
    return found


QUICK = ["-n", "12", "--real", "20", "--batch", "6"]
QUICK += ["--rounds", "1", "--steps", "1", "--final-steps", "0", "--flow-steps", "1"]


def test_the_command(fake):
    status, out, err = call("evaluate", "digits", *QUICK, "--keep", "kept", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert (result["model"], result["n"], result["data"], result["split"]) == ("digits", 12, "digits", "train")
    assert len(result["metrics"]) == 5
    for values in result["metrics"].values():
        assert math.isfinite(values["value"])
        assert (values["extractor"], values["n"], values["n_real"]) == ("projection", 12, 20)
        assert (values["data"], values["split"]) == ("digits", "train")
        assert len(values["weights_sha256"]) == len(values["images_sha256"]) == 64
        assert values["resize"]
    assert len(list(Path("kept").rglob("*.png"))) == 12
    assert "images generated 12 of 12" in err
    again = call("evaluate", "digits", *QUICK, "--keep", "kept")
    assert again[0] == 0
    assert "projection frechet-distance" in again[1]


def test_bits(fake):
    few = ("--metrics", "bits", "-n", "20", "--levels", "4", "--chains", "2")
    status, out, err = call("evaluate", "digits", *few, "--temperature", "0.5", "--json")
    assert status == 0, err
    metrics = json.loads(out)["metrics"]
    assert metrics["log_z"]["low"] <= metrics["log_z"]["value"] <= metrics["log_z"]["high"]
    bits = metrics["bits_per_dimension"]
    assert (bits["n"], bits["split"], bits["temperature"]) == (20, "test", 0.5)
    assert metrics["log_z"]["temperature"] == 0.5
    shown = call("evaluate", "digits", *few)[1]
    assert "temperature 1" in shown


def test_only_like_results_are_put_side_by_side(fake, tmp_path):
    results = {}
    for name, changed in {"a": (), "seed": ("--seed", "1"), "n": ("-n", "13"), "split": ("--split", "test")}.items():
        status, out, err = call("evaluate", "digits", *QUICK, *changed, "--metrics", "fid,prc", "--json")
        assert status == 0, err
        Path(f"{name}.json").write_text(out)
        results[name] = json.loads(out)
    status, out, err = call("evaluate", "--compare", "a.json", "a.json")
    assert status == 0, err
    assert out.count("projection") == 6
    for other, word in {"n": "has n 12", "split": "has split train", "seed": "images sha256"}.items():
        status, out, err = call("evaluate", "--compare", "a.json", f"{other}.json")
        assert (status, out) == (1, "")
        assert "not comparable" in err
        assert word in err
    for key in ("extractor", "weights_sha256", "resize"):
        changed = json.loads(json.dumps(results["a"]))
        changed["metrics"]["projection precision"][key] = "other"
        Path("b.json").write_text(json.dumps(changed))
        with pytest.raises(EbmctlError, match=f"projection precision has {key.replace('_', ' ')}"):
            compare(Path("a.json"), Path("b.json"))
    Path("b.json").write_text(json.dumps({"metrics": {"fid": {"value": 1}}}))
    with pytest.raises(EbmctlError, match="no metric in common"):
        compare(Path("a.json"), Path("b.json"))
    interval = {"value": 0.5, "low": 0.25, "high": 0.75}
    row = {"out": "noise", **dict.fromkeys(("auroc", "aupr_in", "aupr_out", "fpr95"), interval)}
    for document, words in (
        ({"metrics": 3}, "is not a complete result: metrics must be a table, not 3"),
        ({"in": "digits", "score": "energy", "results": [row]}, "is not a result of `ebmctl evaluate`"),
    ):
        Path("b.json").write_text(json.dumps(document))
        with pytest.raises(EbmctlError, match=words):
            compare(Path("a.json"), Path("b.json"))


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "give a model, or two results"),
        (["digits", "--metrics", "fidd"], 2, "--metrics must be fid"),
        (["digits", "-n", "9"], 2, "-n must be at least 10"),
        (["digits", "--split", "all"], 2, "--split must be train or test"),
        (["digits", "--data", "diggits"], 2, "did you mean 'digits'"),
        (["digits", "--temperature", "0"], 2, "--temperature above 0"),
        (["nothing"], 1, "there is no model"),
    ],
)
def test_errors(arguments, status, words):
    found = call("evaluate", *arguments)
    assert (found[0], found[1]) == (status, "")
    assert words in found[2]
