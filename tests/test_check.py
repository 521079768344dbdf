"""What `compose --check` tells, against samples of which the truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ebmctl.compose.composition import Algebra, Composition, vocabulary
from ebmctl.compose.expression import parse
from ebmctl.data.base import DataRequest
from ebmctl.data.drawn import faces
from ebmctl.data.transform import to_float
from ebmctl.errors import UsageError
from ebmctl.evaluation import composition as checks
from ebmctl.evaluation import pixels
from ebmctl.evaluation.intervals import wilson
from ebmctl.evaluation.results import CompositionResult, PixelStatistic
from ebmctl.models.classifier import Classifier, ClassifierConfig, Head, heads_of, save_classifier, targets
from tests.test_classifier import tiny
from tests.test_cli import call
from tests.test_composition import save

PAIR = ("young", "smiling")
HEADS = tuple(Head(name, (f"not {name}", name)) for name in PAIR)


class Corners(nn.Module):
    """Says young where the first pixel is bright, smiling where the last one is."""

    def forward(self, x):
        young, smiling = x[:, 0, 0, 0] - 0.5, x[:, 0, -1, -1] - 0.5
        return torch.stack([-young, young, -smiling, smiling], 1)


JUDGE = Classifier(ClassifierConfig("faces", 3, 8, 1, HEADS, {}), Corners())


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("concepts")
    return {name: save(folder, name, (name,), name) for name in PAIR}


@pytest.fixture(autouse=True)
def judged(monkeypatch) -> None:
    monkeypatch.setattr(checks, "default_classifier", lambda *_: JUDGE)
    monkeypatch.setattr(checks, "DATA", 600)


def compose(text: str, own: dict[str, Path]) -> Composition:
    return Composition(parse(text), vocabulary(None, own, []), Algebra())


def check(composed: Composition, samples: torch.Tensor) -> CompositionResult:
    return checks.prepare(composed)(samples, 0)


def marked(*rows: tuple[int, int]) -> torch.Tensor:
    """Grey images that are young and smiling, or not, to `Corners`."""
    x = torch.rand(len(rows), 3, 8, 8, generator=torch.Generator().manual_seed(0)) / 2
    for image, (young, smiling) in zip(x, rows, strict=True):
        image[:, 0, 0], image[:, -1, -1] = young, smiling
    return x


ROWS = [(1, 1), (1, 1), (1, 0), (0, 1), (0, 0)]


@pytest.mark.parametrize(
    ("text", "shares", "joint"),
    [
        ("young & smiling", {"young": 0.6, "smiling": 0.6}, 0.4),
        ("2*young & ~smiling", {"young": 0.6, "~smiling": 0.4}, 0.2),
        ("young | smiling", {"young | smiling": 0.8}, 0.8),
        ("young & (smiling | smiling=no)", {"young": 0.6, "smiling | smiling=no": 1.0}, 0.6),
        ("~(young & smiling)", {"~(young & smiling)": 0.6}, 0.6),
    ],
)
def test_accuracies(own, text, shares, joint) -> None:
    found = check(compose(text, own), marked(*ROWS))
    assert {name: share.value for name, share in found.attributes.items()} == pytest.approx(shares)
    assert found.joint.value == pytest.approx(joint)
    assert found.joint.low < joint < found.joint.high or joint == 1
    json.dumps(found.to_json(), allow_nan=False)


def test_held_out_images_have_the_diversity_and_look_of_the_data(own) -> None:
    """And of those for which the expression holds, not of all."""
    data = faces.make(DataRequest("test", Path(), 8, 3))
    images, labels = data.__getitems__(range(600))
    fits = (labels[:, 0] == 1) & (labels[:, 2] == 0)
    composed = compose("young & ~smiling", own)
    found = check(composed, to_float(images[fits]))
    assert found.diversity == pytest.approx(1, abs=0.05)
    for name, values in found.look.items():
        assert values.composed == pytest.approx(values.data, rel=0.05, abs=0.05), name
    assert sum(found.histogram.data) == pytest.approx(1)
    truth = targets(heads_of(data), data, labels)
    assert (truth["young"] == labels[:, 0]).all()
    assert found.held_out == pytest.approx(600 / 4, rel=0.25)


def test_one_picture_again_and_again_has_no_diversity(own) -> None:
    found = check(compose("young", own), marked((1, 1)).expand(6, -1, -1, -1))
    assert found.diversity == pytest.approx(0, abs=1e-6)
    alone = check(compose("young", own), marked((1, 1)))
    assert alone.diversity is None


def test_what_holds_for_no_image(own) -> None:
    found = check(compose("young & ~young", own), marked(*ROWS))
    assert (found.joint.value, found.diversity, found.held_out) == (0, None, 0)
    assert found.joint.high < 0.45
    json.dumps(found.to_json(), allow_nan=False)


def test_statistics_of_pixels() -> None:
    flat = torch.full((4, 3, 8, 8), 0.5)
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2).float().expand(4, 3, -1, -1)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(4, -1, 8, 8)
    found = {name: values.composed for name, values in pixels.look(flat, board).items()}
    assert found == pytest.approx(
        {"sharpness": 0, "brightness": 0.5, "contrast": 0, "saturation": 0, "clipped": 0, "histogram distance": 1},
        abs=1e-5,
    )
    assert pixels.sharpness(board).item() == pytest.approx(4)
    assert pixels.look(red, board)["saturation"] == PixelStatistic(1, 0)
    assert pixels.look(red, board)["clipped"] == PixelStatistic(1, 1)
    assert "saturation" not in pixels.look(flat[:, :1], board[:, :1])


def test_a_concept_that_nobody_can_tell(own, tmp_path) -> None:
    more = {**own, "glad": save(tmp_path, "glad", ("glad",), "glad")}
    composed = Composition(parse("young & glad"), vocabulary(None, more, []), Algebra())
    with pytest.raises(UsageError, match="can't check 'glad'; attributes that can be checked: young, smiling"):
        check(composed, marked(*ROWS))


def test_values_are_told_by_their_names() -> None:
    heads = (Head("form", ("form=cube", "form=ball")), Head("class", ("3", "4")))
    model = SimpleNamespace(recipe=SimpleNamespace(data=SimpleNamespace(label="form")))
    assert checks._value(model, "ball", heads) == ("form", 1)
    assert checks._value(model, "form=ball", heads) == ("form", 1)


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0, 0.2775), (10, 10, 0.7225, 1)]
)
def test_wilson(right, count, low, high) -> None:
    """Published values of the score interval."""
    found = wilson(right, count)
    assert (found.value, found.low, found.high) == pytest.approx((right / count, low, high), abs=1e-4)


def test_the_command(own, here) -> None:
    models = [f"--model={name}={path}" for name, path in own.items()]
    status, out, err = call("compose", "young & ~smiling", *models, "-n", "4", "--check", "--json")
    assert status == 0, err
    result = json.loads(out)
    assert set(result["attributes"]) == {"young", "~smiling"}
    assert set(result["attributes"]["young"]["accuracy"]) == set(result["joint"]) == {"value", "low", "high"}
    assert result["diversity"] > 0
    status, out, err = call("compose", "young", "smiling", *models, "-n", "4", "--check")
    assert status == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["young", "smiling", "all", "diversity"]
    assert "sharpness" in out
    assert call("compose", "young", "not:young", *models, "-n", "1", "--check")[0] == 0  # no diversity


def test_what_is_missing_is_said_before_anything_is_drawn(own, here, tmp_path) -> None:
    save_classifier(tmp_path / "large", tiny(size=32), "")
    save_classifier(tmp_path / "other", tiny(size=8), "")
    models = [f"--model={name}={path}" for name, path in own.items()]
    for folder, message in (
        ("large", "images of another size"),
        ("other", "can't check 'young'"),
        ("none", "no model"),
    ):
        status, out, err = call("compose", "young", *models, "--check", "--classifier", str(tmp_path / folder))
        assert (status != 0, out) == (True, "")
        assert message in err
    assert not (here / "composed.png").exists()
    assert call("compose", "young", *models, "--classifier", "x")[0] == 2
