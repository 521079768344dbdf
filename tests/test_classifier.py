"""Classifiers: their folders, what they tell, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ebmctl.data.base import TensorImages
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.models import classifier, zoo
from ebmctl.models.classifier import (
    Classifier,
    ClassifierConfig,
    ClassifierNetwork,
    Head,
    load_classifier,
    save_classifier,
)
from ebmctl.models.model import load

HEADS = (Head("smiling", ("not smiling", "smiling")), Head("form", ("form=cube", "form=ball", "form=cone")))


def tiny(architecture: str = "plain", size: int = 8) -> Classifier:
    config = ClassifierConfig("faces", 3, size, 2, HEADS, {"seed": 0}, architecture)
    torch.manual_seed(0)
    return Classifier(config, ClassifierNetwork(config).eval())


@pytest.mark.parametrize("architecture", ["plain", "resnet18"])
def test_a_folder_is_read_back(tmp_path: Path, architecture: str) -> None:
    made = tiny(architecture)
    save_classifier(tmp_path / "c", made, "# a card\n")
    found = load_classifier(tmp_path / "c")
    x = torch.rand(5, 3, 8, 8)
    assert found.config == made.config
    assert [p.shape for p in found.probabilities(x)] == [(5, 2), (5, 3)]
    for mine, theirs in zip(made.probabilities(x), found.probabilities(x, batch=2), strict=True):
        torch.testing.assert_close(mine, theirs)
        torch.testing.assert_close(mine.sum(1), torch.ones(5))
    assert found.features(x).shape == (5, 64)
    assert {name: values.shape for name, values in found.decide(x).items()} == {"smiling": (5,), "form": (5,)}
    assert found.sha256() is not None
    with pytest.raises(UsageError, match=r"\(B, 3, 8, 8\)"):
        found.decide(torch.rand(5, 1, 8, 8))


def test_heads_and_targets_of_datasets() -> None:
    pixels = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0]])
    attributes = TensorImages(pixels, labels, ("smiling", "form=cube", "form=ball", "form=cone"), exclusive=False)
    heads = classifier.heads_of(attributes)
    assert heads == HEADS
    found = classifier.targets(heads, attributes, labels)
    assert {name: values.tolist() for name, values in found.items()} == {"smiling": [1, 0, 1], "form": [1, 2, 0]}
    classes = TensorImages(pixels, torch.eye(3), ("cat", "dog", "emu"))
    assert classifier.heads_of(classes) == (Head("class", ("cat", "dog", "emu")),)
    found = classifier.targets(classifier.heads_of(classes), classes, torch.eye(3))
    assert found["class"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "generator"}, "not the configuration of a classifier"),
        ({"format": 2}, "not the configuration of a classifier"),
        ({"width": 10**9}, "not a classifier's configuration"),
        ({"width": "2"}, "not a classifier's configuration"),
        ({"heads": [{"name": "a", "values": ["one"]}]}, "not a classifier's configuration"),
        ({"architecture": "vgg"}, "not a classifier's configuration"),
        ({"architecture": "resnet18"}, "do not fit"),
        ({"architecture": "resnet18", "channels": 1}, "not a classifier's configuration"),
        ({"heads": 3}, "not a classifier's configuration"),
        ({"width": 3}, "do not fit"),
        ({"heads": [{"name": "a", "values": ["one", "two"]}]}, "do not fit"),
    ],
)
def test_a_bad_folder_is_one_line(tmp_path: Path, change: dict, message: str) -> None:
    save_classifier(tmp_path / "c", tiny(), "# a card\n")
    path = tmp_path / "c" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(EbmctlError, match=message) as caught:
        load_classifier(tmp_path / "c")
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    made = tiny()
    made.network.heads.bias.data[0] = float("nan")
    save_classifier(tmp_path / "c", made, "# a card\n")
    with pytest.raises(EbmctlError, match="NaN or infinite"):
        load_classifier(tmp_path / "c")


def test_a_classifier_is_no_energy(tmp_path: Path) -> None:
    save_classifier(tmp_path / "c", tiny(), "# a card\n")
    with pytest.raises(EbmctlError, match="describes a classifier, not an energy-based model"):
        load(tmp_path / "c")
    with pytest.raises(EbmctlError) as caught:
        load("nothing")
    assert "classifier" not in str(caught.value)


def test_those_that_ship_are_as_good_as_they_say() -> None:
    """Their provenance is what bench.classifier wrote; the issue asks for these accuracies."""
    least = {"faces": 0.98, "objects": 0.98, "digits": 0.98, "fashion-mnist": 0.9}
    for name, bound in least.items():
        found = classifier.default_classifier(name)
        assert found.config.dataset == name
        assert min(found.config.provenance["test_accuracy"].values()) >= bound
    assert {e.dataset for e in zoo.zoo().values() if e.kind == "classifier"} >= set(least)
    with pytest.raises(EbmctlError, match="no classifier of celeba"):
        classifier.default_classifier("celeba")
