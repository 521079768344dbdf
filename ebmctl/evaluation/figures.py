"""Pictures of how sets are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from ebmctl.evaluation.ood import Scored
from ebmctl.evaluation.panels import new_figure, save_figure


def save_separation(path: Path, inside: Scored, outside: Sequence[Scored], score: str) -> None:
    """Histograms of the scores on the left, ROC curves on the right."""
    figure = new_figure(10, 4, "ood")
    left, right = figure.subplots(1, 2)
    everything = np.concatenate([inside.scores.numpy(), *(other.scores.numpy() for other in outside)])
    low, high = np.percentile(everything, [0.2, 99.8])
    bins = np.linspace(low, high, 60)
    left.hist(inside.scores.numpy(), bins, density=True, color="0.6", label=f"{inside.name} (in)")
    right.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for other in outside:
        left.hist(other.scores.numpy(), bins, density=True, histtype="step", linewidth=1.5, label=other.name)
        truth = np.repeat([0, 1], [len(inside.scores), len(other.scores)])
        joined = np.concatenate([inside.scores.numpy(), other.scores.numpy()])
        false_positive, true_positive, _ = roc_curve(truth, joined)
        right.plot(false_positive, true_positive, label=other.name)
    left.set(xlabel=f"score ({score})", ylabel="density", title="Scores")
    right.set(xlabel=f"{inside.name} images flagged", ylabel="outside images flagged", title="ROC", aspect="equal")
    for axes in (left, right):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
