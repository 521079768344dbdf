"""An independent judge of samples: a small classifier on real images, and what it says of generated ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from ebmctl.config.dataset import DatasetName
from ebmctl.data.base import DataRequest, Split
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.models.model import Model

Array = NDArray[np.float64]


def images(name: str, split: Split, size: int, count: int = 2000) -> tuple[Tensor, Tensor]:
    """The first images of a set as (N, 1, size, size) in [0, 1], and their classes (N,) or (0,)."""
    request = DataRequest(split, default_root(), size, 1)
    dataset = open_dataset(DatasetName.parse(name), request)
    batch = dataset.__getitems__(range(min(len(dataset), count)))
    return batch.images.float() / 255, batch.labels.argmax(1) if batch.labels.shape[1] else torch.zeros(0)


class Judge:
    """A network of two hidden layers; the second one's 64 activations are the features."""

    def __init__(self, name: str, size: int) -> None:
        train, classes = images(name, "train", size, 10_000)
        self.test, self.classes = images(name, "test", size)
        self.network = MLPClassifier((128, 64), early_stopping=True, random_state=0, max_iter=60)
        self.network.fit(train.flatten(1).numpy(), classes.numpy())
        self.accuracy = self.network.score(self.test.flatten(1).numpy(), self.classes.numpy())

    def features(self, x: Tensor) -> Array:
        """Features (N, 64) of images (N, 1, H, W)."""
        hidden = x.flatten(1).numpy()
        for weight, bias in zip(self.network.coefs_[:-1], self.network.intercepts_[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0)
        return np.asarray(hidden, dtype=np.float64)

    def of_samples(self, samples: Tensor) -> dict[str, float]:
        """Confidence, the smallest class's share, and the Fréchet distance of features to held-out images."""
        probability = self.network.predict_proba(samples.flatten(1).numpy())
        share = np.bincount(probability.argmax(1), minlength=probability.shape[1]) / len(samples)
        return {
            "confidence": float(probability.max(1).mean()),
            "smallest_class": float(share.min()),
            "feature_distance": frechet(self.features(samples), self.features(self.test)),
        }


def frechet(a: Array, b: Array) -> float:
    """The Fréchet distance between Gaussians fitted to features (N, D) and (M, D), by torch-fidelity."""
    first, second = (fid_features_to_statistics(torch.from_numpy(features)) for features in (a, b))
    return float(fid_statistics_to_metric(first, second, False)["frechet_inception_distance"])


def auroc(model: Model, inside: Tensor, outside: Tensor) -> float:
    """How well the energy tells images apart, (N, C, H, W) and (M, C, H, W)."""
    energies: Any = torch.cat([model.energy(inside), model.energy(outside)]).numpy()
    return float(roc_auc_score([0] * len(inside) + [1] * len(outside), energies))
