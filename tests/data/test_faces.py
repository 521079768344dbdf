"""The faces that the package draws: the same each time, and each attribute clearly visible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ebmctl.data.drawn.faces import ATTRIBUTES, face, look
from tests.data.formats import load


def test_an_index_always_gives_the_same_face(tmp_path):
    first, again = load("faces", tmp_path, size=32), load("faces", tmp_path, size=32)
    batch = first.__getitems__([5, 3, 49_999, 3])
    assert batch.images.shape == (4, 3, 32, 32)
    assert torch.equal(batch.images[1], batch.images[3])
    assert torch.equal(again.__getitems__([3, 5]).images, batch.images[[1, 0]])
    test = load("faces", tmp_path, "test", size=32)
    assert (len(first), len(test)) == (50_000, 5_000)
    assert not torch.equal(test.__getitems__([5]).images[0], batch.images[0])
    assert load("faces", tmp_path, size=16, channels=1).__getitems__([0]).images.shape == (1, 1, 16, 16)
    assert (first.label_names, first.exclusive) == (ATTRIBUTES, False)


def test_attributes_are_balanced_and_independent(tmp_path):
    labels = load("faces", tmp_path, size=8).__getitems__(range(1500)).labels
    correlation = np.corrcoef(labels.numpy().T)
    assert (labels.mean(0) - 0.5).abs().max() < 0.05
    assert np.abs(correlation - np.eye(4)).max() < 0.08


@pytest.mark.parametrize("attribute", range(4))
def test_an_attribute_changes_its_own_part_of_the_picture(attribute):
    """With all else equal: the mouth for the smile, hair for waves; nothing else of the background moves."""
    style = look(np.random.default_rng(4), young=True)
    values = [True, False, False, False]
    changed = list(values)
    changed[attribute] = not changed[attribute]
    a, b = (np.asarray(face(style, *v), dtype=int) for v in (values, changed))
    difference = np.abs(a - b).sum(2) > 30
    assert 5 < difference.sum() < 500
    if ATTRIBUTES[attribute] == "smiling":
        rows, columns = np.nonzero(difference)
        assert rows.min() > 16
        assert columns.max() - columns.min() < 16


@pytest.mark.slow
def test_a_small_classifier_sees_every_attribute(tmp_path):
    torch.manual_seed(0)
    train = load("faces", tmp_path, size=32).__getitems__(range(4000))
    test = load("faces", tmp_path, "test", size=32).__getitems__(range(500))
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 64, 64), nn.ReLU(), nn.Linear(64, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(8):
        for rows in torch.randperm(4000).split(50):
            logits = network(train.images[rows] / 255 - 0.5)
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(logits, train.labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        right = ((network(test.images / 255 - 0.5) > 0) == test.labels.bool()).float().mean(0)
    assert right.min() > 0.95, dict(zip(ATTRIBUTES, right.tolist(), strict=True))
