"""What `--label` can name: classes, binary attributes, and attributes with several values."""

from __future__ import annotations

import pytest
import torch

from ebmctl.config import recipe as recipes
from ebmctl.data.base import TensorImages
from ebmctl.data.drawn.objects import ATTRIBUTES
from ebmctl.data.labels import attributes, condition, condition_labels
from ebmctl.errors import UsageError
from tests.data.formats import load
from tests.spies import spied
from tests.test_run import images as noise
from tests.test_run import trainer

MIXED = ("size=small", "smiling", "size=large", "shape=round", "shape=flat")


def images(names=MIXED, exclusive=False) -> TensorImages:
    return TensorImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(2, len(names)), names, exclusive)


def asked(label: str, dataset) -> tuple[str, ...]:
    return condition_labels(recipes.resolve("noise", None, [f"data.label={label}"], {}), dataset)


def test_every_attribute_of_the_objects(tmp_path):
    dataset = load("objects", tmp_path, size=8)
    labels = dataset.__getitems__(range(20)).labels
    assert attributes(dataset) == tuple(ATTRIBUTES)
    start = 0
    for name, values in ATTRIBUTES.items():
        assert asked(name, dataset) == tuple(f"{name}={value}" for value in values)
        assert torch.equal(condition(name, dataset, labels), labels[:, start : start + len(values)])
        start += len(values)


def test_values_and_binary_attributes_side_by_side():
    labels = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 1]])
    assert asked("size", images()) == ("size=small", "size=large")
    assert torch.equal(condition("size", images(), labels), torch.eye(2))
    assert asked("smiling", images()) == ("not smiling", "smiling")
    assert torch.equal(condition("smiling", images(), labels), torch.eye(2))
    assert asked("size=large", images()) == ("not size=large", "size=large")  # one value against the others
    assert torch.equal(condition("size=large", images(), labels), torch.eye(2))


def test_classes_are_never_values():
    """A folder of pictures may have any name."""
    assert asked("class", images(exclusive=True)) == MIXED
    with pytest.raises(UsageError, match="unknown label 'size'"):
        asked("size", images(exclusive=True))


def test_an_unknown_label():
    with pytest.raises(UsageError, match="unknown label 'zzz': known: shape, size, smiling"):
        asked("zzz", images())
    with pytest.raises(UsageError, match="did you mean 'shape'"):
        asked("shap", images())


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_training_step_leaves_out_the_recipes_share_of_labels(share):
    made = trainer(
        "data.label=class", f"data.label_dropout={share}", "optimizer.batch_size=1000", data=noise(("a", "b", "c"))
    )
    spy, batch = spied(made), next(made.batches())
    for _ in range(2):
        made.train_step(batch)
    (first, second), labels = spy.labels, batch.labels
    for found in (first, second):
        without = found.sum(1) == 0
        assert float(without.float().mean()) == pytest.approx(share, abs=0.04)
        assert torch.equal(found[~without], labels[~without])
    assert torch.equal(first, second) == (share in (0.0, 1.0))  # others each time
    assert torch.equal(labels.sum(1), torch.ones(1000))
