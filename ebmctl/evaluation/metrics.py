"""How well scores tell two sets apart, each metric with a bootstrap interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import auc, average_precision_score, roc_curve

from ebmctl.evaluation.intervals import Interval

Array = NDArray[np.float64]
REPLICATES = 300


def separation(inside: Array, outside: Array, weights: Array | None = None) -> dict[str, float]:
    """AUROC, AUPR and FPR@95 of outlier scores (N,) and (M,), optionally weighted (N + M,); ties count by halves.

    `aupr_in` takes the inside images as the positives, `aupr_out` the outside ones. `fpr95` is the share of outside
    images that pass for inside where 95 % of the inside ones do (inside is positive: Liang et al. 2018).
    """
    scores = np.concatenate([inside, outside])
    is_inside = np.repeat([1, 0], [len(inside), len(outside)])
    false_positive, true_positive, _ = roc_curve(is_inside, -scores, sample_weight=weights, drop_intermediate=False)
    return {
        "auroc": float(auc(false_positive, true_positive)),
        "aupr_in": float(average_precision_score(is_inside, -scores, sample_weight=weights)),
        "aupr_out": float(average_precision_score(1 - is_inside, scores, sample_weight=weights)),
        "fpr95": float(false_positive[np.argmax(true_positive >= 0.95)]),
    }


def intervals(inside: Array, outside: Array, seed: int, replicates: int | None = None) -> dict[str, Interval]:
    """The metrics of `separation`, with 95 % percentile intervals from resampling both sets."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(replicates or REPLICATES):
        parts = [draw.multinomial(len(part), np.full(len(part), 1 / len(part))) for part in (inside, outside)]
        found.append(separation(inside, outside, np.concatenate(parts).astype(np.float64)))
    return {name: _interval(value, [f[name] for f in found]) for name, value in separation(inside, outside).items()}


def _interval(value: float, replicates: list[float]) -> Interval:
    low, high = np.percentile(replicates, [2.5, 97.5])
    return Interval(value, float(low), float(high))
