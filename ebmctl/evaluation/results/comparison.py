"""Results of `ebmctl evaluate` side by side, where they are alike in everything that a metric depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmctl.errors import EbmctlError
from ebmctl.evaluation.results.quality import Metric, QualityResult
from ebmctl.evaluation.results.reader import read_result
from ebmctl.evaluation.results.tables import Table

DEPENDS = (
    "extractor",
    "weights_sha256",
    "resize",
    "n",
    "n_real",
    "data",
    "split",
    "images_sha256",
    "subsets",
    "subset_size",
    "splits",
    "neighbours",
    "temperature",
)


@dataclass(frozen=True)
class Comparison:
    """The metrics that two results have in common, each in both of them."""

    first: str
    second: str
    metrics: Mapping[str, tuple[Metric, Metric]]

    def to_json(self) -> dict[str, Any]:
        """The JSON of `ebmctl evaluate --compare`."""
        return {name: {"a": a.value, "b": b.value} for name, (a, b) in self.metrics.items()}

    def table(self) -> Table:
        """A row for each metric, the results in columns."""
        rows = [[name, a.formatted, b.formatted, a.about] for name, (a, b) in self.metrics.items()]
        return Table(["metric", self.first, self.second, "details"], rows, text_last=True)


def compare(first: Path, second: Path) -> Comparison:
    """Put the results in two files side by side.

    Raises EbmctlError where one is no result of `ebmctl evaluate`, where they have no metric in common, and for metrics
    that differ in anything of `DEPENDS`.
    """
    a, b = _metrics(first), _metrics(second)
    shared = [name for name in a if name in b]
    if not shared:
        raise EbmctlError(
            f"{first} and {second} have no metric in common: {', '.join(a) or 'none'}; {', '.join(b) or 'none'}"
        )
    for name in shared:
        for key in DEPENDS:
            one, other = getattr(a[name], key), getattr(b[name], key)
            if one != other:
                raise EbmctlError(
                    f"not comparable: {name} has {key.replace('_', ' ')} {one} in {first} and {other} in {second}"
                )
    return Comparison(str(first), str(second), {name: (a[name], b[name]) for name in shared})


def _metrics(path: Path) -> Mapping[str, Metric]:
    result = read_result(path)
    if not isinstance(result, QualityResult):
        raise EbmctlError(f"{path} is not a result of `ebmctl evaluate`")
    return result.metrics
