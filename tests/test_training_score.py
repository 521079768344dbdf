"""The score that a run takes of its averaged weights now and then, and the best model by it."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

import ebmctl
from ebmctl.config import recipe as recipes
from ebmctl.core.buffer import quantize
from ebmctl.data.datasets import default_root
from ebmctl.errors import UsageError
from ebmctl.evaluation.training import TrainingScore
from ebmctl.models.folder import ModelConfig, build_network
from ebmctl.models.model import Model
from ebmctl.training.folder import RunFolder
from tests.test_cli import call
from tests.test_run import TINY, finish, trainer

SMALL = [*TINY, "data.size=16", "eval.n=60"]


def lines(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def without_times(folder):
    return [{k: v for k, v in line.items() if k != "seconds" and not k.startswith("eval_")} for line in lines(folder)]


def drawing(model):
    return {"eval_distance": float(ebmctl.sample(model, 4, seed=1).mean())}


def test_training_goes_on_as_if_it_had_not_been_scored(tmp_path):
    folders = []
    for name, every in (("plain", 0), ("scored", 2)):
        made = trainer(f"eval.every={every}")
        folders.append(RunFolder.create(tmp_path / name, made.recipe))
        finish(made, folders[-1], score=drawing if every else None)
    plain, scored = folders
    assert without_times(plain) == without_times(scored)
    assert [line["step"] for line in lines(scored) if "eval_distance" in line] == [2, 4, 6]
    for name, tensor in ebmctl.load(plain.path).network.state_dict().items():
        assert torch.equal(tensor, ebmctl.load(scored.path).network.state_dict()[name])


@pytest.mark.parametrize(("distances", "best"), [((3.0, 1.0, 2.0), 4), ((1.0, 2.0, 3.0), 2), ((3.0, 2.0, 1.0), 6)])
def test_the_best_model_is_the_one_of_the_smallest_distance(tmp_path, distances, best):
    made = trainer("eval.every=2", "run.checkpoint_every=100")
    folder, found = RunFolder.create(tmp_path / "run", made.recipe), iter(distances)
    finish(made, folder, score=lambda _: {"eval_distance": next(found)})
    assert ebmctl.load(folder.path / "best").config.provenance["steps"] == best
    assert made.best == min(distances)


def test_going_on_knows_the_best_distance(tmp_path):
    made = trainer("eval.every=2", "run.steps=2")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder, score=lambda _: {"eval_distance": 1.0})
    longer = trainer("eval.every=2", "run.steps=4")
    folder.load_checkpoint(longer)
    finish(longer, folder, score=lambda _: {"eval_distance": 2.0})
    assert ebmctl.load(folder.path / "best").config.provenance["steps"] == 2
    assert ebmctl.load(folder.path).config.provenance["steps"] == 4


def test_a_score_that_can_not_be_had_is_no_best(tmp_path):
    made = trainer("eval.every=2")
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder, score=lambda _: {})
    assert not (folder.path / "best").exists()


def scored(*changes: str) -> tuple[TrainingScore, Model]:
    recipe = recipes.resolve("digits", "default", [*SMALL, *changes], {})
    score = TrainingScore(recipe, default_root(), torch.device("cpu"))
    labels = tuple(map(str, range(10))) if recipe.data.label else ()
    torch.manual_seed(0)
    return score, Model(ModelConfig(recipe, labels, {}), build_network(recipe.network, 1, len(labels)))


def test_the_distance_is_torch_fidelitys_of_the_drawn_images():
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    score, model = scored()
    seen = score.extractor(quantize(ebmctl.sample(model, 60, seed=0))).features
    first, second = map(fid_features_to_statistics, (seen, score.real.features))
    expected = fid_statistics_to_metric(first, second, False)["frechet_inception_distance"]
    assert score(model)["eval_distance"] == pytest.approx(expected)
    assert score(model) == score(model)
    assert 1 <= score(model)["eval_score"] <= 10


def test_labels_are_drawn_as_often_as_the_held_out_images_have_them():
    score, model = scored("data.label=class")
    assert [label for label, _ in score.parts] == [str(digit) for digit in range(10)]
    assert sum(count for _, count in score.parts) == 60
    assert min(count for _, count in score.parts) > 0
    assert set(score(model)) == {"eval_distance", "eval_score"}


def test_what_is_not_finite_has_no_score():
    score, model = scored()
    with torch.no_grad():
        model.network.scales[0].head.weight.fill_(float("nan"))
    assert score(model) == {}


def test_settings_are_checked():
    for wrong in ("eval.every=-1", "eval.n=9"):
        with pytest.raises(UsageError, match=r"every must be at least 0|n must be at least 10"):
            recipes.resolve("digits", None, [wrong], {})


def test_from_the_command_line(here):
    status, _, err = call(
        "train", "digits", "--recipe", "tiny.toml", "--set", "eval.every=2", "--set", "eval.n=20", "--out", "run",
        *itertools.chain(*(("--set", text) for text in ("data.size=16", "run.steps=4"))),
    )  # fmt: skip
    assert status == 0, err
    assert "evaluating every 2 steps with classifier.digits" in err
    assert "step 4: distance" in err
    assert ebmctl.load("run/best").config.provenance["steps"] in (2, 4)


def test_an_extractor_that_is_not_there_is_said_before_the_run(here):
    extractor = ("--set", "eval.every=2", "--set", "eval.extractor=nobody")
    status, _, err = call("train", "digits", "--recipe", "tiny.toml", *extractor, "--out", "run")
    assert status != 0
    assert "nobody" in err
    assert not (here / "run").exists()
