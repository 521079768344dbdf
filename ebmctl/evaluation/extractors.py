"""Feature extractors for quality metrics: torch-fidelity's Inception, or a classifier of the zoo."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ebmctl.config.dataset import DatasetName
from ebmctl.data.transform import fit_pixels, to_float
from ebmctl.errors import EbmctlError
from ebmctl.files import sha256
from ebmctl.models.classifier import Classifier, default_classifier, load_classifier

INCEPTION = "inception"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of weights-inception-2015-12-05-6726825d.pth, torch-fidelity's and pytorch-fid's conversion of the original."""


class Features(NamedTuple):
    """Features (B, D) and logits (B, K), both float32 on the CPU."""

    features: Tensor
    logits: Tensor


class Extractor(Protocol):
    """Features of uint8 images (B, C, H, W). Metrics by one that is not `published` bear its name, never plain FID."""

    name: str
    weights_sha256: str | None
    resize: str
    published: bool

    def __call__(self, pixels: Tensor, /) -> Features:
        """The features of images."""


class ClassifierExtractor:
    """A small classifier of a dataset's labels: its last layer is the features."""

    published = False

    def __init__(self, name: str, classifier: Classifier) -> None:
        self.name, self.classifier = name, classifier
        self.weights_sha256 = classifier.sha256()
        self.size, self.channels = classifier.config.size, classifier.config.channels
        self.resize = f"to {self.channels} x {self.size} x {self.size} where it is not (antialiased bilinear)"

    def __call__(self, pixels: Tensor) -> Features:
        """The features of uint8 images of any size."""
        x = to_float(fit_pixels(pixels, self.size, self.channels))
        return Features(self.classifier.features(x).float().cpu(), joint(self.classifier.probabilities(x)).cpu())


def joint(parts: Sequence[Tensor]) -> Tensor:
    """Logarithms (B, V1 * V2 * ...) of the probabilities of all combinations of independent values."""
    logs = parts[0].clamp_min(1e-30).log()
    for part in parts[1:]:
        logs = (logs[:, :, None] + part.clamp_min(1e-30).log()[:, None]).flatten(1)
    return logs.float()


class InceptionExtractor:
    """torch-fidelity's Inception v3 with the original weights, as published scores are made."""

    name = "inception-v3-compat"
    resize = "to 3 x 299 x 299, bilinear as TensorFlow 1 (torch-fidelity)"
    published = True

    def __init__(self, weights: Path | None, device: torch.device) -> None:
        """Takes the weights' file, or downloads it; raises EbmctlError if it is not available or is another file."""
        fidelity = need_fidelity("feature_extractor_inceptionv3")
        path = self._checked(weights) if weights else self._downloaded(fidelity.URL_INCEPTION_V3)
        self.weights_sha256: str | None = INCEPTION_SHA256
        made = fidelity.FeatureExtractorInceptionV3(
            self.name, ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
        )
        self.network, self.device = made.to(device), device

    def __call__(self, pixels: Tensor) -> Features:
        """The features of uint8 images (B, 1 or 3, H, W)."""
        with torch.no_grad():
            features, logits = self.network(pixels.expand(-1, 3, -1, -1).to(self.device))
        return Features(features.cpu(), logits.cpu())

    @staticmethod
    def _checked(path: Path) -> Path:
        """The file, whose checksum is verified before it is opened: torch-fidelity reads it as a pickle."""
        if not path.is_file():
            raise EbmctlError(f"there is no file {path}; give torch-fidelity's Inception weights")
        if sha256(path) != INCEPTION_SHA256:
            raise EbmctlError(f"refusing to open {path}: its SHA-256 is not that of torch-fidelity's Inception weights")
        return path

    @classmethod
    def _downloaded(cls, url: str) -> Path:
        path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), hash_prefix=INCEPTION_SHA256, progress=False)
            except (OSError, RuntimeError) as error:
                raise EbmctlError(
                    f"the Inception weights can't be downloaded ({error}); give a local copy, "
                    "--inception-weights FILE, or a classifier, --extractor MODEL"
                ) from error
        return cls._checked(path)


def need_fidelity(module: str) -> Any:
    """A module of torch-fidelity; raises EbmctlError that says how to get it."""
    try:
        return importlib.import_module(f"torch_fidelity.{module}")
    except ImportError as error:
        raise EbmctlError("quality metrics need torch-fidelity: pip install 'ebmctl[evaluate]'") from error


def find_extractor(name: str | None, dataset: DatasetName, weights: Path | None, device: torch.device) -> Extractor:
    """The extractor of that name: `inception`, or a classifier's folder or name in the zoo.

    Without a name the zoo's classifier for a dataset that is available offline, Inception for any other.
    """
    if name == INCEPTION or weights or (name is None and not dataset.offline):
        return InceptionExtractor(weights, device)
    if name:
        return ClassifierExtractor(name, load_classifier(name, device))
    try:
        return ClassifierExtractor(f"classifier.{dataset}", default_classifier(str(dataset), device))
    except EbmctlError as error:
        raise EbmctlError(f"{error.args[0].partition(';')[0]}; give --extractor MODEL, or inception") from error
