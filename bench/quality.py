"""Figures of a digits model: what an independent classifier sees in its samples, and what it tells apart.

python -m bench.quality runs/00000-digits [--n 512] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC

import ebmctl
from ebmctl.data.base import DataRequest, Split
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.errors import EbmctlError
from ebmctl.registry import find


def images(name: str, split: Split, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All images of a set as (N, 1, size, size) in [0, 1], and their classes."""
    request = DataRequest(split, default_root(), size, 1)
    dataset = open_dataset(name, request, lambda n: find("dataset", n).load())
    batch = dataset.__getitems__(range(min(len(dataset), 2000)))
    return batch.images.float() / 255, batch.labels.argmax(1) if batch.labels.shape[1] else torch.zeros(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model = ebmctl.load(options.model)
    size = model.shape[1]
    train, train_class = images("digits", "train", size)
    test, test_class = images("digits", "test", size)
    classifier = CalibratedClassifierCV(SVC(C=10), cv=5, ensemble=False)
    classifier.fit(train.flatten(1), train_class)
    samples = ebmctl.sample(model, options.n, options.seed)
    probability = classifier.predict_proba(samples.flatten(1))
    share = np.bincount(probability.argmax(1), minlength=10) / len(samples)
    result = {
        "classifier accuracy on held-out digits": classifier.score(test.flatten(1), test_class),
        "mean top probability, held-out digits": classifier.predict_proba(test.flatten(1)).max(1).mean(),
        "mean top probability, samples": probability.max(1).mean(),
        "smallest class among samples": share.min(),
        "classes": [round(float(s), 3) for s in share],
    }
    inside = model.energy(test)
    for name in ("fashion-mnist", "noise"):
        try:
            outside = model.energy(images(name, "test", size)[0])
        except EbmctlError as error:
            print(f"left out: {error}")
            continue
        truth = [0] * len(inside) + [1] * len(outside)
        result[f"AUROC against {name}"] = roc_auc_score(truth, torch.cat([inside, outside]).numpy())
    metrics = Path(options.model) / "metrics.jsonl"
    if metrics.is_file():
        differences = [json.loads(line)["energy_difference"] for line in metrics.read_text().splitlines()]
        result["training steps"] = len(differences)
        result["largest |energy difference|, last half"] = max(map(abs, differences[len(differences) // 2 :]))
    for name, value in result.items():
        print(f"{name:45} {value:.4f}" if isinstance(value, float) else f"{name:45} {value}")


if __name__ == "__main__":
    main()
