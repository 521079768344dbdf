"""Outlier scores of an energy whose scales differ, and the sets that they are taken from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ebmctl.config.dataset import DatasetName
from ebmctl.core.energy import Conditioned, EnergyNetwork
from ebmctl.data import synthetic
from ebmctl.evaluation import metrics, scores
from ebmctl.evaluation.ood import Detector, Settings
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import Model
from tests.test_run import recipe

NOISE, CONSTANT = DatasetName.parse("noise"), DatasetName.parse("constant")


class Three(EnergyNetwork):
    """Three scales: the sum of an image, minus twice its sum of squares, and ten times its variance."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 10.0]))

    def terms(self, x, label=None):
        flat = x.flatten(1)
        return self.weight * torch.stack([flat.sum(1), flat.square().sum(1), flat.var(1)], 1)


def test_scores_are_means_over_all_scales_or_one_of_them(generator):
    model, x = Conditioned(Three(), None), torch.rand(9, 1, 8, 8, generator=generator)
    flat = x.flatten(1)
    each = [flat.sum(1), -2 * flat.square().sum(1), 10 * flat.var(1)]
    mean = sum(each) / 3
    assert torch.allclose(scores.energy(model, x), mean, atol=1e-4)
    assert torch.allclose(scores.typicality(2.0)(model, x), (mean - 2.0).abs(), atol=1e-4)
    for index, one in enumerate(each):
        assert torch.allclose(scores.scale(index)(model, x), one, atol=1e-4)


@pytest.fixture
def detector(monkeypatch):
    monkeypatch.setattr(synthetic, "COUNT", 40)
    monkeypatch.setattr(metrics, "REPLICATES", 2)

    def make(score: str) -> Detector:
        return Detector(Model(ModelConfig(recipe(), (), {}), Three()), NOISE, Settings(Path(), score))

    return make


def test_typicality_is_the_distance_from_the_mean_of_the_training_images(detector):
    made = detector("typicality")
    train, test = (
        made._open(NOISE, split).__getitems__(range(40)).images.flatten(1).double() / 255 for split in ("train", "test")
    )

    def energy(flat):
        return (flat.sum(1) - 2 * flat.square().sum(1) + 10 * flat.var(1)) / 3

    expected = (energy(test) - energy(train).mean()).abs()
    assert torch.allclose(made.of_set(NOISE).scores, expected, atol=1e-4)
    assert abs(energy(test).mean() - energy(train).mean()) > 0.01


def test_outside_images_are_the_ones_that_should_score_higher(detector):
    """AUROC is the share of pairs in which the outside image scores higher than the inside one: by variance none."""
    made = detector("scale-2")
    inside, outside = (made.of_set(name).scores.numpy() for name in (NOISE, CONSTANT))
    _, compared = made.compare([CONSTANT])
    assert np.mean(outside[None] > inside[:, None]) == 0
    assert compared.metrics["auroc"].value == 0
    assert compared.metrics["fpr95"].value == 1
