"""The solids that the package draws: the same each time, and each attribute clearly visible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from ebmctl.data.drawn.objects import ATTRIBUTES, LABELS, one_hot, scenes
from ebmctl.data.drawn.render import render
from tests.data.formats import load

GROUPS = [len(values) for values in ATTRIBUTES.values()]


def test_an_index_always_gives_the_same_solid(tmp_path):
    first, again = load("objects", tmp_path), load("objects", tmp_path)
    batch = first.__getitems__([5, 3, 49_999, 3])
    assert batch.images.shape == (4, 3, 32, 32)
    assert torch.equal(batch.images[1], batch.images[3])
    other = again.__getitems__([7, 3, 8, 5])
    assert torch.equal(other.images[[1, 3]], batch.images[[1, 0]])
    assert torch.equal(other.labels[[1, 3]], batch.labels[[1, 0]])
    test = load("objects", tmp_path, "test")
    assert (len(first), len(test)) == (50_000, 5_000)
    assert not torch.equal(test.__getitems__([5]).images[0], batch.images[0])
    assert load("objects", tmp_path, size=16, channels=1).__getitems__([0]).images.shape == (1, 1, 16, 16)
    assert (first.label_names, first.exclusive) == (LABELS, False)


def test_values_are_balanced_and_independent(tmp_path):
    labels = load("objects", tmp_path, size=8).__getitems__(range(4000)).labels
    for group in labels.split(GROUPS, dim=1):
        assert torch.equal(group.sum(1), torch.ones(4000))
        assert (group.mean(0) - 1 / group.shape[1]).abs().max() < 0.03
    correlation = np.corrcoef(labels.numpy().T)
    ends = np.cumsum([0, *GROUPS])
    for low, high in itertools.pairwise(ends):
        correlation[low:high, low:high] = 0
    assert np.abs(correlation).max() < 0.06


def test_splits_have_no_image_in_common(tmp_path):
    train, test = (
        load("objects", tmp_path, split, size=8).__getitems__(range(1500)).images for split in ("train", "test")
    )
    assert len({image.numpy().tobytes() for image in torch.cat([train, test])}) == 3000


def test_attributes_change_what_they_name():
    """With all else equal, seen in the picture: size by the solid's area, position by its middle, rotation by white."""
    draws = np.full((1, 16), 0.5)

    def mask(values, **changes):
        one = scenes(np.array([values]), draws)
        dark, light = (
            render(one._replace(**{name: np.full((1, 3), level, np.float32) for name in ("body", "paint")}), 32)[0]
            for level in (0, 1)
        )
        return (light.astype(int) - dark).sum(-1) > 250

    for solid in range(4):
        areas = [mask((solid, size, 1, 0)).sum() for size in range(3)]
        assert areas[0] > 25
        assert areas[1] > 1.5 * areas[0]
        assert areas[2] > 1.5 * areas[1]
        middles = [np.nonzero(mask((solid, 1, position, 0)))[1].mean() for position in range(3)]
        assert np.allclose(middles, [8.5, 15.5, 22.5], atol=1)
        whites = []
        for rotation in range(4):
            one = scenes(np.array([(solid, 2, 1, rotation)]), draws)
            one = one._replace(body=np.array([[0.9, 0, 0]], np.float32), ground=np.zeros((1, 3), np.float32))
            whites.append(render(one, 32)[0][..., 2] > 60)
        front, right, back, left = (w.sum() for w in whites)
        assert front > 1.2 * right
        assert min(right, left) > 2 * back
        assert np.nonzero(whites[1])[1].mean() > 17
        assert np.nonzero(whites[3])[1].mean() < 14


@pytest.mark.slow
def test_a_small_classifier_sees_every_attribute(tmp_path):
    torch.manual_seed(0)
    train = load("objects", tmp_path).__getitems__(range(8000))
    test = load("objects", tmp_path, "test").__getitems__(range(1000))
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 64, 64), nn.ReLU(), nn.Linear(64, sum(GROUPS)),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(8):
        for rows in torch.randperm(8000).split(50):
            logits = network(train.images[rows] / 255 - 0.5).split(GROUPS, 1)
            truth = train.labels[rows].split(GROUPS, 1)
            optimizer.zero_grad()
            sum(nn.functional.cross_entropy(a, b) for a, b in zip(logits, truth, strict=True)).backward()
            optimizer.step()
    with torch.no_grad():
        guessed = network(test.images / 255 - 0.5).split(GROUPS, 1)
    pairs = zip(guessed, test.labels.split(GROUPS, 1), strict=True)
    right = [float((a.argmax(1) == b.argmax(1)).float().mean()) for a, b in pairs]
    assert min(right) > 0.95, dict(zip(ATTRIBUTES, right, strict=True))


def test_labels_are_one_hot_groups():
    labels = one_hot(np.array([[3, 0, 2, 1]]))
    assert [LABELS[i] for i in labels[0].nonzero().flatten()] == [
        "identity=cone", "size=small", "position=right", "rotation=right",
    ]  # fmt: skip
