"""Figures of a digits model: what an independent classifier sees in its samples, and what it tells apart.

python -m bench.quality runs/00000-digits [--n 512] [--seed 0]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.svm import SVC

import ebmctl
from bench.judge import auroc, images
from ebmctl.errors import EbmctlError
from ebmctl.models.metrics import DIFFERENCE, FILE, Metrics


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
    began = time.monotonic()
    ebmctl.sample(model, 64, options.seed)
    drawn = time.monotonic() - began
    samples = ebmctl.sample(model, options.n, options.seed)
    probability = classifier.predict_proba(samples.flatten(1))
    share = np.bincount(probability.argmax(1), minlength=10) / len(samples)
    result = {
        "classifier accuracy on held-out digits": classifier.score(test.flatten(1), test_class),
        "mean top probability, held-out digits": classifier.predict_proba(test.flatten(1)).max(1).mean(),
        "mean top probability, samples": probability.max(1).mean(),
        "smallest class among samples": share.min(),
        "seconds for 64 samples": drawn,
        "classes": [round(float(s), 3) for s in share],
    }
    for name in ("fashion-mnist", "noise"):
        try:
            outside = images(name, "test", size)[0]
        except EbmctlError as error:
            print(f"left out: {error}")
            continue
        result[f"AUROC against {name}"] = auroc(model, test, outside)
    metrics = Path(options.model) / FILE
    if metrics.is_file():
        known = Metrics.read(metrics)
        differences = known.series(DIFFERENCE).values
        result["training steps"] = len(known.steps)
        last = [abs(value) for value in differences[len(differences) // 2 :]]
        if last:
            result["largest |energy difference|, last half"] = max(last)
    for name, value in result.items():
        print(f"{name:45} {value:.4f}" if isinstance(value, float) else f"{name:45} {value}")


if __name__ == "__main__":
    main()
