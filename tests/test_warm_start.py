"""Training that starts from a trained energy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from ebmctl.config.recipe import resolve
from ebmctl.data.base import DataRequest
from ebmctl.data.drawn.faces import make
from ebmctl.errors import UsageError
from ebmctl.training.trainer import Trainer
from tests.device import DEVICE, seeded
from tests.test_cli import call

SMALL = [
    "network.name=residual",
    "network.width=4",
    "network.blocks=[0]",
    "network.multipliers=[2]",
    "network.scales=1",
    "network.attention=0",
    "optimizer.batch_size=4",
]


def trainer(*changes: str) -> Trainer:
    recipe = resolve("faces", None, [*SMALL, *changes], {})
    return Trainer(recipe, make(DataRequest("train", Path(), 32, 3)), Accelerator(cpu=DEVICE.type == "cpu"))


def test_a_conditional_energy_starts_as_the_unconditional_one_for_every_label() -> None:
    base, conditional = trainer("run.seed=1"), trainer("data.label=smiling")
    conditional.start_from(base.network.state_dict())
    x = torch.rand(3, 3, 32, 32, generator=seeded(), device=DEVICE)
    expected = base.network(x)
    for label in (torch.zeros(3, 2), torch.eye(2)[[0, 1, 1]]):
        torch.testing.assert_close(conditional.network(x, label.to(DEVICE)), expected)
        torch.testing.assert_close(conditional.ema(x, label), expected)
    before = conditional.network.state_dict()["scales.0.layers.0.label1.weight"].clone()
    conditional.train_step(next(conditional.batches()))
    assert not torch.equal(before, conditional.network.state_dict()["scales.0.layers.0.label1.weight"])


def test_a_conditional_energy_can_go_on_with_its_labels() -> None:
    first, second = trainer("run.seed=1", "data.label=smiling"), trainer("data.label=smiling")
    second.start_from(first.network.state_dict())
    for name, tensor in first.network.state_dict().items():
        assert torch.equal(tensor, second.network.state_dict()[name])


@pytest.mark.parametrize("change", ["network.width=8", "network.blocks=[1]", "network.blocks=[0, 0]"])
def test_another_architecture_is_refused(change: str) -> None:
    more = ["network.multipliers=[2, 2]"] if change.endswith("0]") else []
    with pytest.raises(UsageError, match="another architecture"):
        trainer().start_from(trainer(change, *more).network.state_dict())


def test_a_conditional_start_for_an_unconditional_energy_is_refused() -> None:
    with pytest.raises(UsageError, match="another architecture"):
        trainer().start_from(trainer("data.label=smiling").network.state_dict())


def test_a_share_of_labels_is_dropped() -> None:
    from ebmctl.data.labels import dropped

    draw = torch.Generator().manual_seed(0)
    label = torch.eye(2)[torch.randint(0, 2, (4000,), generator=draw)]
    assert dropped(label, 0.0, draw) is label
    found = dropped(label, 0.2, draw)
    assert found is not None
    zero = found.sum(1) == 0
    assert 0.17 < zero.float().mean() < 0.23
    assert torch.equal(found[~zero], label[~zero])


def test_frozen_weights_stay_and_what_labels_add_is_trained() -> None:
    head = ["network.name=denoising", "network.widths=[4, 6]", "network.label_head=8", "objective.label_weight=1.0"]
    head = [*head, "objective.pairing=independent", "optimizer.batch_size=4"]

    def made(*changes: str) -> Trainer:
        recipe = resolve("faces", "faces", [*head, *changes], {})
        return Trainer(recipe, make(DataRequest("train", Path(), 32, 3)), Accelerator(cpu=DEVICE.type == "cpu"))

    base, conditional = made(), made("data.label=smiling", "run.init=base", "run.freeze_init=true")
    conditional.start_from(base.network.state_dict())
    for batch, _ in zip(conditional.batches(), range(2), strict=False):  # at first the head's last layer alone moves
        conditional.train_step(batch)
    start, now = base.network.state_dict(), conditional.network.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in start.items())
    assert all(name.startswith("head.") for name in now.keys() - start.keys())
    untrained = made("data.label=smiling").network.state_dict()
    assert not any(torch.equal(now[name], untrained[name]) for name in now.keys() - start.keys())
    with pytest.raises(UsageError, match="--label"):
        made("run.init=base", "run.freeze_init=true")
    with pytest.raises(UsageError, match="freeze_init needs init"):
        made("data.label=smiling", "run.freeze_init=true")


def test_what_changes_from_the_start_is_said(here: Path) -> None:
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "first")[0] == 0
    begin = ("train", "noise", "--recipe", "tiny.toml", "--init", "first")
    assert "starting from first\n" in call(*begin, "--out", "same")[2]
    other = call(*begin, "--out", "other", "--set", "network.norm=instance")
    assert "starting from first, with norm = instance, not auto\n" in other[2]


def test_a_run_goes_on_where_its_model_is_broken(here: Path) -> None:
    assert call("train", "noise", "--recipe", "tiny.toml", "--out", "run", "--steps", "2")[0] == 0
    for steps, text in enumerate(("{", "[]", '{"plugins": 3}', '{"plugins": [3]}', '{"plugins": [{}]}'), 3):
        (here / "run/model/config.json").write_text(text)
        assert call("train", "noise", "--resume", "run", "--steps", str(steps))[0] == 0
