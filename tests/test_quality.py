"""Quality metrics against closed forms and torch-fidelity itself, and what they are taken from."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch_fidelity as fidelity

from ebmctl.config.dataset import DatasetName
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation import extractors
from ebmctl.evaluation.extractors import ClassifierExtractor, Features, InceptionExtractor, find_extractor, joint
from ebmctl.evaluation.quality import METRICS, compute_metrics, extract
from tests.projection import Projection


def quality(a: torch.Tensor, b: torch.Tensor, *metrics: str, published: bool = False) -> dict[str, float]:
    extractor = SimpleNamespace(name="x", weights_sha256=None, resize="none", published=published)
    found = compute_metrics(Features(a, a), Features(b, b), metrics, extractor)
    return {name: values.value for name, values in found.items()}


def normal(n: int, mean: list[float], std: list[float], seed: int = 0) -> torch.Tensor:
    """Features (n, D) whose sample mean and covariance are exactly those."""
    x = np.random.default_rng(seed).normal(size=(n, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x, rowvar=False))).T
    return torch.from_numpy(x * std + mean)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    a, b = normal(50, [0, 1, 2], [1, 2, 3]), normal(70, [1, 1, 0], [2, 2, 0.5], 1)
    assert quality(a, b, "fid")["x frechet-distance"] == pytest.approx(1 + 4 + 1 + 0 + 2.5**2)


def test_a_set_against_itself_and_two_halves(generator):
    x = torch.randn(600, 5, generator=generator)
    same = quality(x, x, *METRICS, published=True)
    assert same["fid"] == pytest.approx(0, abs=1e-3)
    assert abs(same["kid"]) < 0.1  # its estimate is unbiased, so that of equal sets can be below 0
    assert same["precision"] == same["recall"] == 1
    halves = quality(x[:300], x[300:], "fid", "kid", "prc", published=True)
    moved = quality(x[:300], x[300:] + 1, "fid", "kid", "prc", published=True)
    assert 0 < halves["fid"] < 0.2 < 4 < moved["fid"]
    assert halves["kid"] < 0.1 < moved["kid"]
    assert moved["precision"] < 0.7 < halves["precision"]


def test_score_of_sure_and_even_classes_is_their_number():
    logits = 100 * torch.eye(4).repeat(250, 1)
    assert quality(logits, logits, "is")["x score"] == pytest.approx(4, rel=0.02)  # ten splits are a little uneven
    assert quality(0 * logits, logits, "is")["x score"] == pytest.approx(1)


def test_figures_agree_with_torch_fidelity(generator):
    pixels = torch.randint(0, 256, (240, 3, 16, 16), dtype=torch.uint8, generator=generator)
    a, b = pixels[:120], pixels[120:] // 2
    matrix = torch.randn(768, 6, generator=generator) / 500

    class Fake(fidelity.FeatureExtractorBase):
        def __init__(self, name, features_list, **_):
            super().__init__(name, features_list)

        def forward(self, x):
            return (x.float().flatten(1) @ matrix,)

        @staticmethod
        def get_provided_features_list():
            return ("f",)

        @staticmethod
        def get_default_feature_layer_for_metric(_):
            return "f"

        @staticmethod
        def can_be_compiled():
            return False

    class Images(torch.utils.data.Dataset):
        def __init__(self, pixels):
            self.pixels = pixels

        def __len__(self):
            return len(self.pixels)

        def __getitem__(self, index):
            return self.pixels[index]

    fidelity.register_feature_extractor("ebmctl-fake", Fake)
    asked = {"isc": True, "fid": True, "kid": True, "prc": True, "kid_subset_size": 120}
    theirs = fidelity.calculate_metrics(
        input1=Images(a),
        input2=Images(b),
        cuda=False,
        feature_extractor="ebmctl-fake",
        save_cpu_ram=True,
        verbose=False,
        **asked,
    )
    mine = quality(a.float().flatten(1) @ matrix, b.float().flatten(1) @ matrix, *METRICS, published=True)
    assert mine["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert mine["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert mine["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert mine["precision"] == pytest.approx(theirs["precision"])
    assert mine["recall"] == pytest.approx(theirs["recall"])


def test_few_images():
    with pytest.raises(UsageError, match="at least 10"):
        quality(torch.zeros(9, 2), torch.zeros(20, 2), "fid")


def test_a_classifier_as_extractor(generator):
    pixels = torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8, generator=generator)
    extractor = ClassifierExtractor("classifier.digits", Projection())
    found = extract(extractor, torch.split(pixels, 4))
    assert found.features.shape == (11, 6)
    assert found.logits.exp().sum(1).tolist() == pytest.approx([1] * 11)
    named = compute_metrics(found, found, METRICS, extractor)
    assert list(named) == [
        f"classifier.digits {name}" for name in ("frechet-distance", "score", "kernel-distance", "precision", "recall")
    ]
    assert named["classifier.digits score"].weights_sha256 == "ab" * 32
    assert "1 x 16 x 16" in named["classifier.digits score"].resize


def test_the_classifier_of_the_zoo(generator):
    pixels = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8, generator=generator)
    extractor = find_extractor(None, DatasetName.parse("faces"), None, torch.device("cpu"))
    assert extractor.name == "classifier.faces"
    assert len(extractor.weights_sha256) == 64
    found = extractor(pixels)
    assert found.features.shape == (12, 64)
    assert found.logits.shape == (12, 16)  # four attributes, each yes or no
    assert found.logits.exp().sum(1).tolist() == pytest.approx([1] * 12, abs=1e-4)


def test_a_dataset_without_a_classifier(monkeypatch):
    monkeypatch.setattr("ebmctl.models.classifier.zoo", dict)
    with pytest.raises(EbmctlError, match=r"no classifier of digits; give --extractor MODEL, or inception") as found:
        find_extractor(None, DatasetName.parse("digits"), None, torch.device("cpu"))
    assert "--classifier" not in str(found.value)


def test_joint_probabilities():
    found = joint([torch.tensor([[0.1, 0.9]]), torch.tensor([[0.2, 0.3, 0.5]])]).exp()
    assert found[0].tolist() == pytest.approx([0.02, 0.03, 0.05, 0.18, 0.27, 0.45])


def test_inception_weights_are_checked_before_they_are_opened(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(torch, "load", never)
    other = tmp_path / "weights.pth"
    other.write_bytes(b"a pickle")
    device = torch.device("cpu")
    with pytest.raises(EbmctlError, match="refusing to open"):
        InceptionExtractor(other, device)
    with pytest.raises(EbmctlError, match="there is no file"):
        find_extractor("inception", DatasetName.parse("digits"), tmp_path / "none.pth", device)

    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(EbmctlError, match=r"can't be downloaded .* --inception-weights FILE"):
        find_extractor(None, DatasetName.parse("cifar10"), None, device)
    (tmp_path / "hub/checkpoints/weights-inception-2015-12-05-6726825d.pth").write_bytes(b"altered")
    with pytest.raises(EbmctlError, match="refusing to open"):
        find_extractor(None, DatasetName.parse("cifar10"), None, device)


@pytest.mark.slow
def test_inception_itself(tmp_path, monkeypatch, generator):
    """Random weights in torch-fidelity's own file format: a grey image is one of three equal channels."""
    path, device = tmp_path / "weights.pth", torch.device("cpu")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: None)
    module = extractors.need_fidelity("feature_extractor_inceptionv3")
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        made = module.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"])
    torch.save(made.state_dict(), path)
    monkeypatch.setattr(extractors, "INCEPTION_SHA256", extractors.sha256(path))
    grey = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8, generator=generator)
    found = find_extractor("inception", DatasetName.parse("digits"), path, device)(grey)
    expected = made(grey.repeat(1, 3, 1, 1))
    assert torch.equal(found.features, expected[0])
    assert torch.equal(found.logits, expected[1])
    assert found.features.shape == (2, 2048)
