"""The paper's figures: what they show against truth, and that they are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ebmctl.config.recipe import resolve
from ebmctl.core.config import SampleConfig
from ebmctl.data.base import TensorImages
from ebmctl.evaluation import paper_figures
from ebmctl.evaluation.chains import Chains, NotDrawnError
from ebmctl.evaluation.curves import png
from ebmctl.evaluation.extractors import Features
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.nearest import Neighbours, memorisation
from ebmctl.evaluation.panels import around
from ebmctl.evaluation.paper_figures import PaperFigures, metrics_of
from ebmctl.evaluation.pixels import spread
from ebmctl.models.folder import ModelConfig
from ebmctl.models.metrics import ALONE, DIFFERENCE, Group, Series
from ebmctl.models.model import Model
from tests.core.quadratic import Quadratic
from tests.test_cli import call

MEAN = 0.3
SPACES = ("pixel", "classifier.digits feature")


class FirstPixels:
    """An extractor that sees two pixels."""

    name, weights_sha256, resize, published = "mine", None, "none", False

    def __call__(self, pixels: torch.Tensor) -> Features:
        seen = pixels.flatten(1)[:, :2].float()
        return Features(seen, seen)


def model(*settings: str) -> Model:
    """A quadratic energy around MEAN, whose Langevin steps halve the way."""
    own = ["data.size=4", "data.channels=1", "sampler.step_size=0.5", "sampling.rounds=3", "sampling.steps=4"]
    recipe = resolve("noise", None, [*own, *settings], {})
    return Model(ModelConfig(recipe, (), {}), Quadratic(1.0, torch.full((1, 4, 4), MEAN)))


def test_neighbours_are_those_of_a_full_search(generator):
    train, rows = torch.rand(50, 3, generator=generator), torch.rand(7, 3, generator=generator)
    distances, numbers = Neighbours(train, batch=8).of(rows, 4)
    full = torch.cdist(rows, train).sort()
    assert torch.equal(numbers, full.indices[:, :4])
    assert torch.allclose(distances, full.values[:, :4], atol=1e-6)


def test_memorisation(generator):
    train = torch.rand(400, 5, generator=generator)
    neighbours = Neighbours(train, batch=64)
    assert neighbours.memorised(train[:20]) == 1
    assert neighbours.memorised(train[:20] + 1e-4) == 1
    assert neighbours.memorised(train[:20] + 2) == 0
    fresh = torch.rand(300, 5, generator=generator)
    found = memorisation(train[:10], fresh, neighbours, "pixel")
    assert found.value == 1
    assert 0.2 < found.held_out < 0.7  # neither copies nor elsewhere
    copies = Neighbours(torch.zeros(2, 3))
    assert copies.memorised(torch.zeros(1, 3)) == 0  # training images that are equal are as near to one another


def test_chains_over_time(generator):
    moments = list(Chains(model("sampling.final_steps=2"), None, 0).over_time(5))
    assert [what for what, _ in moments] == [
        "noise",
        *(w for i in (1, 2, 3) for w in (f"augmented {i}", "4 steps")),
        "2 more",
    ]
    assert all(images.shape == (5, 1, 4, 4) and images.min() >= 0 and images.max() <= 1 for _, images in moments)
    away = [(images - MEAN).abs().mean() for _, images in moments]
    assert away[-1] < 0.02 < away[0]


def test_many_rounds_and_a_flow_show_some():
    flowing = model("flow.steps=9", "sampling.rounds=40", "sampling.steps=1", "sampling.final_steps=0")
    names = [what for what, _ in Chains(flowing, None, 0).over_time(2)]
    assert len(names) == 1 + 6 + 12
    assert names[6] == "flow 9"
    assert names[-2] == "augmented 40"


def test_chains_from_one_start():
    made = model("augment.crop=0.3")
    start, with_, without = Chains(made, None, 0).from_one_start(8)
    assert start.shape == (1, 1, 4, 4)
    assert spread(without) < 0.01  # the energy has one lowest point
    grid = around(start, with_)
    assert torch.equal(grid[4], start[0])
    assert torch.equal(torch.cat([grid[:4], grid[5:]]), with_)
    for settings in (["sampling.rounds=0"], ["augment.enabled=false"]):
        with pytest.raises(NotDrawnError, match="without augmentation"):
            Chains(model(*settings), None, 0).from_one_start(8)
    with pytest.raises(ValueError, match="8, 24, 48"):
        around(start, with_[:7])


def test_spread_is_the_root_mean_square():
    assert spread(torch.stack([torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5)])) == pytest.approx(0.5)


def test_descent_ends_at_the_lowest_point(generator):
    x = torch.rand(3, 1, 4, 4, generator=generator)
    assert torch.allclose(Chains(model(), None, 0).descent(x, 60), torch.full_like(x, MEAN), atol=1e-5)
    once = Chains(model("flow.steps=10", "flow.time=1"), None, 0).descent(x, 1)
    assert torch.allclose(once, x - 0.1 * (x - MEAN))
    other = Chains(model(), None, 0)
    other.plan = replace(other.plan, sampler=replace(other.plan.sampler, options=SampleConfig()))
    with pytest.raises(NotDrawnError, match="no step size"):
        other.descent(x, 1)


def test_nearest_by_two_distances(tmp_path, generator):
    pixels = torch.randint(0, 256, (30, 1, 4, 4), dtype=torch.uint8, generator=generator)
    train, other = (
        EvaluationImages(TensorImages(part), "x", None, 0, split="train") for part in (pixels[:20], pixels[20:])
    )
    figures = PaperFigures(model(), tmp_path, lambda _: None)
    figures.nearest(pixels[:9], train, other, FirstPixels())
    assert figures.found["memorisation (pixel distance)"].value == 1
    assert figures.found["memorisation (mine feature distance)"].value == 1
    assert figures.found["memorisation (pixel distance)"].n_held_out == 10
    assert Image.open(figures.written[0]).width > 500


def test_metrics_of_a_run(tmp_path):
    (tmp_path / "run" / "model").mkdir(parents=True)
    lines = [{"step": i, "energy_difference": 0.1 / i} for i in range(1, 300)]
    text = "\n".join(map(json.dumps, lines)) + '\n{"step": 300, "energ'
    (tmp_path / "run" / "metrics.jsonl").write_text(text)
    for folder in ("run", "run/model"):
        assert metrics_of(str(tmp_path / folder)) == tmp_path / "run" / "metrics.jsonl"
    assert metrics_of("digits") is None
    said: list[str] = []
    figures = PaperFigures(model(), tmp_path / "drawn", said.append)
    figures.training(tmp_path / "run" / "metrics.jsonl")
    assert [Path(path).name for path in figures.written] == ["energy-difference.png"]
    assert "has no gradient_cd and gradient_kl" in said[0]
    series = Series([line["step"] for line in lines], [line["energy_difference"] for line in lines])
    expected = png(Group(ALONE[DIFFERENCE], {"difference": series}), dpi=240)
    assert Path(figures.written[0]).read_bytes() == expected


def test_the_command(here, monkeypatch):
    monkeypatch.setattr(paper_figures, "DESCENT_STEPS", 2)
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run")[0] == 0
    status, out, err = call("evaluate", "run", "--figures", "drawn", "-n", "12", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert {Path(path).stem for path in result["figures"]} == {
        "chains", "one-start", "descent", "nearest", "energy-difference", "gradients"
    }  # fmt: skip
    assert all(Image.open(path).size > (400, 300) for path in result["figures"])
    assert list(result["metrics"]) == ["memorisation (pixel distance)"]
    assert result["metrics"]["memorisation (pixel distance)"]["n"] == 12


def test_figures_take_the_images_that_were_measured(here, monkeypatch):
    monkeypatch.setattr(paper_figures, "DESCENT_STEPS", 2)
    short = ["--flow-steps", "1", "-n", "15", "--batch", "10", "--real", "40"]
    status, out, err = call("evaluate", "digits", "--metrics", "fid", "--figures", "drawn", *short, "--json")
    assert status == 0, err
    metrics = json.loads(out)["metrics"]
    assert list(metrics) == [
        "classifier.digits frechet-distance",
        *(f"memorisation ({space} distance)" for space in SPACES),
    ]
    assert {values["n"] for values in metrics.values()} == {15}
    assert err.count("images generated 15 of 15") == 1
    assert "without one-start.png" in err
