"""Outlier detection: figures against scikit-learn and closed forms, fingerprints, and the command."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

import ebmctl
from ebmctl.config.dataset import DatasetName
from ebmctl.core.energy import Conditioned
from ebmctl.data.base import TensorImages
from ebmctl.errors import EbmctlError
from ebmctl.evaluation import scores
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.metrics import intervals, separation
from ebmctl.evaluation.ood import Detector, Settings
from tests.core.quadratic import Quadratic
from tests.test_cli import call

FEW = st.lists(st.integers(-3, 3), min_size=1, max_size=30)


@given(FEW, FEW)
def test_figures_with_ties(inside, outside):
    a, b = np.array(inside, dtype=float), np.array(outside, dtype=float)
    found = separation(a, b)
    truth, joined = [0] * len(a) + [1] * len(b), np.concatenate([a, b])
    assert found["auroc"] == pytest.approx(roc_auc_score(truth, joined))
    assert found["auroc"] == pytest.approx(np.mean([(y > x) + (y == x) / 2 for x in a for y in b]))
    assert found["aupr_out"] == pytest.approx(average_precision_score(truth, joined))
    assert found["aupr_in"] == pytest.approx(average_precision_score([1 - t for t in truth], -joined))
    threshold = min(t for t in a if np.mean(a <= t) >= 0.95)
    assert found["fpr95"] == pytest.approx(np.mean(b <= threshold))


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Normal scores one apart: AUROC is the normal distribution at 1 / sqrt(2), 0.7602; about 95 % must cover it."""
    draw = np.random.default_rng(1)
    covered, widths = [], []
    for seed in range(100):
        figures = intervals(draw.normal(0, 1, 150), draw.normal(1, 1, 150), seed, replicates=60)
        auroc = figures["auroc"]
        assert auroc.low <= auroc.value <= auroc.high
        covered.append(auroc.low <= 0.76025 <= auroc.high)
        widths.append(auroc.high - auroc.low)
    assert 0.85 <= np.mean(covered) <= 1.0
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 0.0275, rel=0.2)  # Hanley and McNeil's standard error
    assert intervals(np.zeros(9), np.ones(9), 0, 20)["auroc"] == Interval(1.0, 1.0, 1.0)


def test_scores_on_a_quadratic(generator):
    network = Quadratic(3.0, torch.full((1, 2, 2), 0.5))
    model = Conditioned(network, None)
    x = torch.rand(7, 1, 2, 2, generator=generator)
    distance = (x - 0.5).flatten(1).norm(dim=1)
    assert torch.allclose(scores.energy(model, x), 1.5 * distance**2 / 2)  # its two scales share the energy by halves
    assert torch.allclose(scores.scale(1)(model, x), 1.5 * distance**2 / 2)
    assert torch.allclose(scores.typicality(0.2)(model, x), (1.5 * distance**2 / 2 - 0.2).abs())
    assert torch.allclose(scores.gradient(model, x), 3 * distance)
    batches = [x[:3], x[3:]]
    assert torch.allclose(scores.scored(scores.energy, model, batches).float(), scores.energy(model, x))


def test_fingerprints(generator):
    images = torch.randint(0, 256, (20, 1, 4, 4), dtype=torch.uint8, generator=generator)

    def fingerprint(pixels, **options):
        made = EvaluationImages(TensorImages(pixels), "x", options.get("n"), options.get("seed", 0), batch=6)
        assert sum(len(x) for x in made) == len(made)
        return made.fingerprint

    whole = fingerprint(images)
    assert (whole["count"], whole["of"], whole["split"]) == (20, 20, "test")
    for row in (0, 7, 19):
        changed = images.clone()
        changed[row, 0, 2, 1] ^= 1
        other = fingerprint(changed)
        assert other["sha256_all"] != whole["sha256_all"]
        assert (other["sha256_first"] != whole["sha256_first"]) == (row == 0)
        assert (other["sha256_last"] != whole["sha256_last"]) == (row == 19)
    few = fingerprint(images, n=5)
    assert few["count"] == 5
    assert few == fingerprint(images, n=5)
    assert few["sha256_all"] != fingerprint(images, n=5, seed=1)["sha256_all"]


@pytest.fixture
def trained(here, monkeypatch) -> Path:
    """A tiny model of constant images, and tiny test sets."""
    from ebmctl.data import synthetic
    from ebmctl.evaluation import metrics

    monkeypatch.setattr(synthetic, "COUNT", 60)
    monkeypatch.setattr(metrics, "REPLICATES", 20)
    assert call("train", "constant", "--recipe", "tiny.toml")[0] == 0
    return here


def test_the_table_and_the_json(trained):
    status, out, err = call("ood", "--in", "constant", "--out", "noise", "--out", "constant", "-n", "40")
    assert status == 0, err
    assert "constant / noise" in out
    assert "average" in out
    assert "FPR@95" in out
    arguments = ["ood", "--in", "constant", "--out", "noise", "--plot", "roc.png", "--json"]
    status, out, err = call(*arguments)
    assert status == 0, err
    result = json.loads(out)
    assert result["command"].split() == ["ebmctl", *arguments]
    assert set(result) >= {"in", "model", "model_sha256", "score", "results", "average"}
    (row,) = result["results"]
    assert (row["out"], row["n_in"], row["n_out"]) == ("noise", 60, 60)
    assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
    assert result["average"]["auroc"] == row["auroc"]["value"]
    assert row["fingerprint"]["count"] == 60
    assert Image.open(trained / "roc.png").size[0] > 600
    assert json.loads(call(*arguments)[1]) == result
    assert result["score"] == "energy"
    for score in ("typicality", "gradient", "scale-0"):
        status, out, err = call("ood", "--in", "constant", "--out", "noise", "--score", score, "--json")
        assert json.loads(out)["score"] == score, err


def test_a_recipe_names_the_score(trained):
    arguments = ("train", "constant", "--recipe", "tiny.toml", "--out", "mine", "--set")
    assert call(*arguments, "ood.score=gradient")[0] == 0
    compared = ("ood", "--in", "constant", "--out", "noise", "--json", "--model", "mine")
    by_recipe, asked = json.loads(call(*compared)[1]), json.loads(call(*compared, "--score", "gradient")[1])
    assert by_recipe["score"] == "gradient"
    assert by_recipe["results"] == asked["results"]
    status, _, err = call(*arguments, "ood.score=best")
    assert (status, "score is energy, typicality, gradient or scale-N" in err) == (2, True)


def test_a_folder(trained):
    (trained / "pictures").mkdir()
    for i in range(25):
        Image.new("L", (20, 10), 10 * i).save(trained / "pictures" / f"{i:02d}.png")
    (trained / "pictures" / "broken.png").write_bytes(b"no picture")
    arguments = ["--in", "constant", "--images", "pictures", "--csv", "scores.csv"]
    status, out, err = call("ood", *arguments, "--plot", "unusual.png", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert (result["images"], result["skipped"]) == (25, 1)
    assert "skipped 1 of 26 images that can't be read: pictures/broken.png" in err
    with (trained / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"{i:02d}.png" for i in range(25)]
    assert sum(int(row["unusual"]) for row in rows) == result["unusual"]
    for row in rows:
        assert (float(row["energy"]) > result["threshold"]) == bool(int(row["unusual"]))
    by_energy = sorted(rows, key=lambda row: float(row["energy"]))
    assert all(float(a["percentile"]) <= float(b["percentile"]) for a, b in pairwise(by_energy))
    assert Image.open(trained / "unusual.png").size[0] > 200
    strict = json.loads(call("ood", *arguments, "--keep", "0.5", "--json")[1])
    assert strict["threshold"] < result["threshold"]


def test_an_infinite_score_names_the_image(trained, monkeypatch):
    model = ebmctl.load("runs/00000-constant")
    detector = Detector(model, DatasetName.parse("constant"), Settings(Path()))
    monkeypatch.setattr(detector, "score", lambda _, x: torch.where(torch.arange(len(x)) == 3, torch.inf, 0.0))
    with pytest.raises(EbmctlError, match=r"the score of image 3 of noise \(test\) is NaN or infinite"):
        detector.of_set(DatasetName.parse("noise"))


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--in", "constant"], 2, "give out-of-distribution datasets"),
        (["--in", "constant", "--out", "noise", "--images", "x", "--csv", "y"], 2, "give out-of-distribution datasets"),
        (["--in", "constant", "--images", "x"], 2, "go together"),
        (["--in", "constant", "--out", "nois"], 2, "did you mean 'noise'"),
        (["--in", "constant", "--out", "noise", "-n", "1"], 2, "--n must be at least 2"),
        (["--in", "constant", "--out", "noise", "--score", "entropy"], 2, "--score must be energy"),
        (["--in", "constant", "--out", "noise", "--score", "scale-7"], 2, "--score must be energy"),
        (["--in", "constant", "--out", "noise", "--model", "none"], 1, "there is no model 'none'"),
        (["--in", "noise", "--out", "constant"], 1, "the zoo has no model of noise, and runs/ has no run of it"),
        (["--in", "constant", "--images", "none", "--csv", "y.csv"], 1, "there is no folder none"),
        (["--in", "constant", "--images", "runs", "--csv", "y.csv", "--keep", "2"], 2, "--keep must be between"),
        (["--in", "constant", "--out", "folder:none"], 1, "there is no folder none"),
    ],
)
def test_bad_input(trained, arguments, status, message):
    found, out, err = call("ood", *arguments)
    assert (found, out) == (status, "")
    assert message in err
    assert not (trained / "y.csv").exists()


def test_flipped_sets_are_the_same_images_upside_down(trained):
    detector = Detector(ebmctl.load("runs/00000-constant"), DatasetName.parse("constant"), Settings(Path()))
    upright, flipped = (
        next(iter(detector._open(DatasetName.parse(name), "test").__getitems__([0, 5])))
        for name in ("noise", "flipped:noise")
    )
    assert torch.equal(upright.flip(2), flipped)
    found, out, _ = call("ood", "--in", "constant", "--out", "flipped:noise", "-n", "8", "--json")
    assert found == 0
    assert json.loads(out)["results"][0]["fingerprint"]["dataset"] == "flipped:noise"
    assert call("ood", "--in", "constant", "--out", "flipped:nois")[0] == 2
