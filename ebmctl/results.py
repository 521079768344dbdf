"""Evaluation results as a model card tells them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmctl.checkpoint import read_json
from ebmctl.errors import EbmctlError

OUTLIER_FIGURES = {"auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out", "fpr95": "FPR@95"}


@dataclass(frozen=True)
class Result:
    """One figure: of what task, on which data, what, how much, and where it is from."""

    task: str
    dataset: str
    metric: str
    value: float
    note: str
    split: str = "test"


def read_results(path: Path, checksum: str) -> list[Result]:
    """The figures in the JSON of `ebmctl ood` or `ebmctl evaluate`; raises EbmctlError, also for another model's."""
    document = read_json(path)
    try:
        if "results" in document:
            if document["model_sha256"] != checksum:
                raise EbmctlError(f"{path} has the results of a model with other weights")
            return list(_outliers(document))
        return [
            Result(
                "unconditional-image-generation",
                str(document.get("data", "")),
                str(name),
                float(figure["value"]),
                f"{int(document['n']):,} samples, extractor {figure.get('extractor', '')}",
                str(document.get("split", "test")),
            )
            for name, figure in document["metrics"].items()
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EbmctlError(f"{path} is not the JSON of `ebmctl ood` or `ebmctl evaluate`: {error!r}") from error


def _outliers(document: Mapping[str, Any]) -> Iterable[Result]:
    for row in document["results"]:
        for key, title in OUTLIER_FIGURES.items():
            figure = row[key]
            note = f"against {row['out']}, 95 % {figure['low']:.3f} to {figure['high']:.3f}, score: {document['score']}"
            yield Result("outlier-detection", str(document["in"]), title, float(figure["value"]), note)


def model_index(name: str, results: Iterable[Result], dataset: str) -> str:
    """The `model-index` of a model card: JSON, which is YAML too."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        key = (result.task, result.dataset or dataset, result.split)
        metric = {"type": result.metric.lower(), "name": f"{result.metric} ({result.note})", "value": result.value}
        groups.setdefault(key, []).append(metric)
    entries = [
        {"task": {"type": task}, "dataset": {"name": data, "type": data, "split": split}, "metrics": metrics}
        for (task, data, split), metrics in groups.items()
    ]
    return json.dumps([{"name": name, "results": entries}], ensure_ascii=False)
