"""Nothing that draws or scores leaves a tensor on the CPU by mistake: seen with a GPU that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import ebmctl
from ebmctl.compose import composition
from ebmctl.compose.expression import parse
from ebmctl.config.dataset import DatasetName
from ebmctl.core import augment as augmentation
from ebmctl.core.augment import augment
from ebmctl.core.config import AugmentConfig
from ebmctl.evaluation.chains import Chains
from ebmctl.evaluation.extractors import ClassifierExtractor
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.ood import Detector, Settings
from ebmctl.models import memory
from ebmctl.models import model as models
from ebmctl.models.classifier import Classifier, ClassifierConfig, ClassifierNetwork, Head
from ebmctl.models.folder import ModelConfig, build_network
from tests.test_composition import HEAD
from tests.test_run import recipe


class _Mode(FakeTensorMode):
    """Tensors without values on a GPU that is not there: an operation of tensors on different devices fails."""

    def __deepcopy__(self, memo):
        return self


class _Generator:
    """One of the GPU's: torch's own can't be made where there is none."""

    device = torch.device("cuda", 0)

    def manual_seed(self, _seed):
        return self


@pytest.fixture
def gpu(monkeypatch):
    """All of torch as with a GPU, but for values."""

    def drawn(make):
        def call(*sizes, generator=None, device=None, **options):
            assert generator is None or generator.device.type == torch.device(device or "cpu").type
            return make(*sizes, device=device, **options)

        return call

    def grad(output, x, **_options):  # torch's own needs the driver, for the way back
        assert output.device.type == x.device.type
        return (torch.empty_like(x),)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    made = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": made() if str(device) == "cpu" else _Generator())
    for name in ("rand", "randn", "randint"):
        monkeypatch.setattr(torch, name, drawn(getattr(torch, name)))
    for module in (memory, models):
        monkeypatch.setattr(module, "free_bytes", lambda _device: 10 << 30)
    monkeypatch.setattr(memory, "rows_that_fit", lambda _free, _each: 7)
    _forget_constants()
    with _Mode():
        yield torch.device("cuda")
    _forget_constants()


def _forget_constants():
    """What is made once on a device must not be one test's in another."""
    for made_once in (augmentation._constant, augmentation._from_yiq):
        made_once.cache_clear()


def on(device, *changes, labels=()):
    """A model with fake weights on a device."""
    made = recipe(*changes)
    with torch.device(device):
        net = build_network(made.network, made.data.channels, len(labels)).eval().requires_grad_(False)
    return models.Model(ModelConfig(made, labels, {}), net)


@pytest.mark.parametrize("labels", [(), ("not glad", "glad")])
def test_samples_and_energies_stay_on_the_gpu(gpu, labels):
    model, label = on(gpu, labels=labels), labels[0] if labels else None
    drawn = ebmctl.sample(model, 20, label=label)
    assert drawn.device.type == "cuda"
    assert model.energy(drawn.cpu(), label).device.type == "cuda"
    assert model.terms(drawn, label).shape == (20, model.scale_count)


AUGMENT = AugmentConfig(crop=0.5, flip=0.5, color=0.5, grey=0.5, blur=0.5)


def test_the_augmentation_and_a_flow_are_on_the_gpu(gpu):
    x = torch.rand(5, 3, 8, 8, device=gpu)
    assert augment(x, AUGMENT, _Generator()).device.type == "cuda"
    model = on(gpu, "flow.steps=3", "flow.method='heun'", "flow.temperature=0.1", "flow.cutoff=0.0")
    assert ebmctl.sample(model, 20).device.type == "cuda"


def test_generated_images_come_to_the_cpu(gpu):
    model = on(gpu)
    made = list(Generation(model.recipe.sampling_plan(), 20, batch=15).pixels(model, None, lambda _done, _n: None))
    assert [(part.device.type, part.dtype, len(part)) for part in made] == [
        ("cpu", torch.uint8, 15),
        ("cpu", torch.uint8, 5),
    ]


@pytest.mark.parametrize("score", ["energy", "gradient", "scale-0"])
def test_outlier_scores_of_images_on_the_cpu(gpu, score):
    detector = Detector(on(gpu), DatasetName.parse("noise"), Settings(Path(), score))
    found = detector.of_images(detector.score, [torch.rand(20, 1, 8, 8), torch.rand(3, 1, 8, 8)])
    assert (found.device.type, found.dtype, len(found)) == ("cpu", torch.float64, 23)


@pytest.mark.parametrize("text", ["glad & ~old", "glad | 2*old", "glad=no"])
@pytest.mark.parametrize("head", [(), HEAD])
def test_a_composition_is_on_the_gpu(gpu, text, head, monkeypatch):
    monkeypatch.setattr(composition, "same_without_label", lambda first, second: first is second)  # has no values
    words = composition.Vocabulary("own", {"glad": Path(), "old": Path()}, gpu)
    words.loaded |= {name: on(gpu, *head, labels=(f"not {name}", name)) for name in ("glad", "old")}
    for algebra in (composition.Algebra(), composition.PLAIN):
        composed = composition.Composition(parse(text), words, algebra)
        plan = composed.first.recipe.sampling_plan()
        *_, last = models.draw(composed, plan, 20, _Generator())
        assert last.device.type == "cuda"


def test_a_classifier_takes_images_from_anywhere(gpu):
    config = ClassifierConfig("digits", 1, 8, 4, (Head("class", ("0", "1")),), {})
    with torch.device(gpu):
        judge = Classifier(config, ClassifierNetwork(config).eval().requires_grad_(False))
    for device in ("cpu", "cuda"):
        assert judge.decide(torch.rand(300, 1, 8, 8, device=device))["class"].device.type == "cuda"
    seen = ClassifierExtractor("classifier", judge)(torch.zeros(5, 3, 16, 16, dtype=torch.uint8))
    assert {seen.features.device.type, seen.logits.device.type} == {"cpu"}


def test_the_figures_chains_are_on_the_gpu(gpu):
    chains = Chains(on(gpu, "augment.enabled=true"), None, 0)
    assert all(images.device.type == "cuda" for _, images in chains.over_time(3))
    assert all(images.device.type == "cuda" for images in chains.from_one_start(3))
    assert chains.descent(torch.rand(3, 1, 8, 8), 2).device.type == "cuda"
