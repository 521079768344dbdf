"""Accuracy and calibration of a trained model on a labelled set."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch.nn import functional as F

from ebmctl import Model
from ebmctl.data.base import ImageDataset
from ebmctl.errors import UsageError
from ebmctl_jem.calibration import calibration_error
from ebmctl_jem.net import ClassifierEnergy

BATCH = 256


@dataclass(frozen=True)
class Classification:
    """Of n images: the share that is classified rightly, the calibration error, the mean negative log likelihood."""

    n: int
    accuracy: float
    ece: float
    nll: float

    def to_mapping(self) -> dict[str, float]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def classify(model: Model, dataset: ImageDataset) -> Classification:
    """Classify all images of a set; raises UsageError where the model is no classifier, or has other classes."""
    network = model.network
    if not isinstance(network, ClassifierEnergy):
        raise UsageError('this model is no classifier: train one with --recipe jem-digits, or network.name="jem"')
    if tuple(dataset.label_names) != tuple(model.config.labels):
        raise UsageError(f"the model's classes are {', '.join(model.config.labels)}; the set has others")
    logits, classes = [], []
    for low in range(0, len(dataset), BATCH):
        batch = dataset.__getitems__(range(low, min(low + BATCH, len(dataset))))
        logits.append(network.logits(batch.images.to(model.device).float() / 255).cpu())
        classes.append(batch.labels.argmax(1))
    found, truth = torch.cat(logits), torch.cat(classes)
    probabilities = found.softmax(1)
    return Classification(
        n=len(truth),
        accuracy=float((probabilities.argmax(1) == truth).float().mean()),
        ece=float(calibration_error(probabilities, truth)),
        nll=float(F.cross_entropy(found, truth)),
    )
