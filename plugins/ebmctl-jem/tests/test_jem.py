"""JEM against what its definition says, and in the program."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
import typer
from torch.nn import functional as F
from typer.testing import CliRunner

import ebmctl
from ebmctl import recipe
from ebmctl.cli import app
from ebmctl.core.config import LangevinConfig
from ebmctl.core.energy import Autocast
from ebmctl.core.langevin import Langevin
from ebmctl.data.base import TensorImages
from ebmctl.errors import UsageError
from ebmctl_jem.calibration import calibration_error
from ebmctl_jem.config import ClassifierConfig, JemConfig
from ebmctl_jem.evaluate import classify
from ebmctl_jem.net import ResidualClassifier, class_logits
from ebmctl_jem.objective import JointEnergy, classification_loss


@pytest.fixture
def network():
    torch.manual_seed(0)
    return ResidualClassifier(ClassifierConfig(4, (1, 0), (1, 2)), 1, 3)


def test_energies_are_those_of_the_logits(network):
    x = torch.rand(5, 1, 8, 8)
    logits = network.logits(x)
    assert torch.allclose(network(x), -logits.exp().sum(1).log())
    for y in range(3):
        joint = network(x, torch.eye(3)[[y] * 5])
        assert torch.allclose(joint, -logits[:, y])
        assert torch.allclose((network(x) - joint).exp(), logits.softmax(1)[:, y], atol=1e-6)  # p(y|x)


def test_a_label_of_zeros_is_that_of_all_images(network):
    x = torch.rand(4, 1, 8, 8)
    label = torch.eye(3)[[0, 1, 2, 0]] * torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    energy, logits = network(x, label), network.logits(x)
    assert torch.allclose(energy[[1, 3]], network(x)[[1, 3]])
    assert torch.allclose(energy[[0, 2]], -logits[[0, 2], [0, 2]])
    term = classification_loss(logits, label, 1.0)
    assert torch.allclose(term.loss, F.cross_entropy(logits[[0, 2]], torch.tensor([0, 2])))
    alone = classification_loss(logits[[0, 2]], label[[0, 2]], 1.0)
    assert {name: float(value) for name, value in term.logs.items()} == pytest.approx(
        {name: float(value) for name, value in alone.logs.items()}
    )
    assert term.logs["ece"] > 0
    nothing = classification_loss(logits, 0 * label, 1.0)
    assert [float(value) for value in (nothing.loss.detach(), *nothing.logs.values())] == [0] * 4


def test_the_gradient_is_that_of_the_joint_likelihood(network):
    """Cross entropy plus E(x) is E(x, y): what the data's side of the objective sums to."""
    x, classes = torch.rand(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    label = torch.eye(3)[classes]
    term = classification_loss(network.logits(x), label, 1.0)
    assert torch.allclose(term.loss + network(x).mean(), network(x, label).mean(), atol=1e-5)
    assert term.logs["accuracy"] == (network.logits(x).argmax(1) == classes).float().mean()


def test_loss_terms(network):
    generator = torch.Generator().manual_seed(0)
    sampler = Langevin(LangevinConfig(1.0, 0.01), generator)
    objective = JointEnergy(JemConfig(steps=2, buffer_size=10, class_weight=3.0), (1, 8, 8), sampler, lambda x: x)
    x, label = torch.rand(4, 1, 8, 8), torch.eye(3)[[0, 1, 2, 0]]
    terms = list(objective.losses(network, x, label))
    assert [term.group for term in terms] == ["class", "cd", "cd"]
    assert torch.allclose(terms[0].loss, 3 * F.cross_entropy(network.logits(x), label.argmax(1)))
    assert torch.allclose(terms[1].loss, network(x).mean())
    assert len(objective.buffer) == 4
    with pytest.raises(ValueError, match="class_weight"):
        JemConfig(class_weight=-1)


def test_lower_precision(network):
    x = torch.rand(2, 1, 8, 8)
    low = class_logits(Autocast(network, torch.bfloat16), x)
    assert low.dtype == torch.float32
    assert torch.allclose(low, network.logits(x), atol=0.1)
    assert not torch.equal(low, network.logits(x))
    with torch.no_grad():
        network.head.bias.fill_(2801)  # bfloat16 would have 2800
    assert torch.allclose(class_logits(Autocast(network, torch.bfloat16), x), network.logits(x), rtol=1e-4)


def test_other_networks_are_refused():
    other = ebmctl.registry.find("architecture", "residual")
    made = other.make(other.load_options()(4, (0,), (1,), 0, 1), 1, 2)
    with pytest.raises(UsageError, match="needs a network with class logits"):
        class_logits(made, torch.rand(1, 1, 8, 8))
    with pytest.raises(ValueError, match="--label class"):
        ResidualClassifier(ClassifierConfig(), 1, 0)


def test_calibration_error_of_known_cases():
    """10 images at 0.9 of which 8 are right, 10 at 0.6 of which 9 are: (10 * 0.1 + 10 * 0.3) / 20."""
    probabilities = torch.tensor([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 10, dtype=torch.float64)
    classes = torch.tensor([0] * 8 + [1] * 2 + [1] * 9 + [0])
    assert float(calibration_error(probabilities, classes)) == pytest.approx(0.2)
    sure = torch.tensor([[1.0, 0.0]] * 4)
    assert float(calibration_error(sure, torch.zeros(4).long())) == 0
    assert float(calibration_error(sure, torch.ones(4).long())) == 1


def test_calibration_error_of_a_calibrated_classifier():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(100_000, 5, generator=generator).pow(3)
    probabilities /= probabilities.sum(1, keepdim=True)
    classes = torch.multinomial(probabilities, 1, generator=generator).squeeze(1)
    assert float(calibration_error(probabilities, classes)) < 0.01
    overconfident = probabilities.square() / probabilities.square().sum(1, keepdim=True)
    assert float(calibration_error(overconfident, classes)) > 0.1


@pytest.mark.parametrize("name", ["jem-cifar10", "jem-digits"])
def test_recipes(name):
    made = recipe.from_mapping(recipe.read(name))
    assert (made.network.name, made.objective.name, made.data.label) == ("jem", "jem", "class")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done.stdout


def test_in_the_program(tmp_path, monkeypatch):
    """Training, samples with and without a label, outliers by the same command, accuracy and calibration."""
    pytest.importorskip("sklearn", reason="scikit-learn, of the ood and digits extras, is not installed")
    monkeypatch.chdir(tmp_path)
    small = ["--set", "network.width=4", "--set", "objective.steps=2", "--set", "optimizer.batch_size=16"]
    run("train", "digits", "--recipe", "jem-digits", *small, "--steps", "5", "--out", "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= line["accuracy"] <= 1 and 0 <= line["ece"] <= 1 for line in lines)
    for label in ([], ["--label", "3"]):
        found = json.loads(run("sample", "run", "-n", "2", "--final-steps", "2", *label, "--json"))
        assert len(found["energies"]) == 2
    found = json.loads(run("ood", "--in", "digits", "--out", "noise", "--model", "run", "-n", "50", "--json"))
    assert 0 <= found["results"][0]["auroc"]["value"] <= 1
    model = ebmctl.load("run")
    x = torch.rand(3, 1, 16, 16)
    joint = torch.stack([model.energy(x, str(digit)) for digit in range(10)], 1)
    assert torch.allclose(model.energy(x), -torch.logsumexp(-joint, 1), atol=1e-5)


def test_evaluation(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="scikit-learn, of the ood and digits extras, is not installed")
    from ebmctl_jem.__main__ import main

    monkeypatch.chdir(tmp_path)
    keys = "network.width=16 objective.steps=1 objective.class_weight=30 optimizer.clip=0.0 optimizer.ema=0.0"
    changes = [argument for key in keys.split() for argument in ("--set", key)]
    run("train", "digits", "--recipe", "jem-digits", *changes, "--steps", "60", "--out", "run")
    evaluation = typer.Typer()
    evaluation.command()(main)
    done = CliRunner().invoke(evaluation, ["run", "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["data"], found["n"]) == ("digits", 359)
    assert found["accuracy"] > 0.5  # a tenth by chance
    assert found["ece"] < 1
    assert found["nll"] < 2.0
    model = ebmctl.load("run")
    images = torch.zeros(4, 1, 16, 16, dtype=torch.uint8)
    with pytest.raises(UsageError, match="the set has others"):
        classify(model, TensorImages(images, torch.eye(4), ["a", "b", "c", "d"]))


def test_images_come_to_the_model_and_logits_back(monkeypatch):
    """On the device that has no values, where an operation with a tensor of the CPU fails."""
    config = ClassifierConfig(width=4, blocks=(0,), multipliers=(1,))
    network = ResidualClassifier(config, 1, 2).to("meta")
    given = []
    monkeypatch.setattr(network, "logits", lambda x: given.append(x.device.type) or torch.zeros(len(x), 2))
    model = SimpleNamespace(network=network, device=torch.device("meta"), config=SimpleNamespace(labels=("a", "b")))
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    assert classify(model, TensorImages(images, torch.eye(2)[[0, 0, 0, 1]], ["a", "b"])).accuracy == 0.75
    assert given == ["meta"]
