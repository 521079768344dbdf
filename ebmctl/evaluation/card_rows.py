"""Evaluation results as a model card tells them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmctl.errors import EbmctlError
from ebmctl.files import read_json

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
    """The figures in the JSON of `ebmctl ood`, `evaluate` or `compose --check`.

    Raises EbmctlError for any other file, and for the results of a model with other weights.
    """
    document = read_json(path)
    try:
        weights = document["models"].values() if "attributes" in document else [document["model_sha256"]]
        if checksum not in weights:
            raise EbmctlError(f"{path} has the results of a model with other weights")
        if "attributes" in document:
            return list(_composition(document))
        return list(_outliers(document) if "results" in document else _quality(document))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = "`ebmctl ood`, `ebmctl evaluate` or `ebmctl compose --check`"
        raise EbmctlError(f"{path} is not the JSON of {what}: {error!r}") from error


def _quality(document: Mapping[str, Any]) -> Iterable[Result]:
    for name, figure in document["metrics"].items():
        note = f"{int(document['n']):,} samples, extractor {figure.get('extractor', '')}"
        data, split = str(document.get("data", "")), str(document.get("split", "test"))
        yield Result("unconditional-image-generation", data, str(name), float(figure["value"]), note, split)


def _outliers(document: Mapping[str, Any]) -> Iterable[Result]:
    for row in document["results"]:
        for key, title in OUTLIER_FIGURES.items():
            figure = row[key]
            note = f"against {row['out']}, 95 % {figure['low']:.3f} to {figure['high']:.3f}, score: {document['score']}"
            yield Result("outlier-detection", str(document["in"]), title, float(figure["value"]), note)


def _composition(document: Mapping[str, Any]) -> Iterable[Result]:
    """How often a classifier finds each term, and all of them, in what was composed."""
    shares = {name: found["accuracy"] for name, found in document["attributes"].items()} | {"all": document["joint"]}
    expression, data = str(document["expression"]), str(document["classifier"]["dataset"])
    for name, share in shares.items():
        interval = f"95 % {share['low']:.3f} to {share['high']:.3f}"
        note = f"{name} in {expression}, {interval}, {int(document['n']):,} samples"
        yield Result("conditional-image-generation", data, "Accuracy", float(share["value"]), note)


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
