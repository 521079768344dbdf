"""What `ebmctl ood` finds: how well a model separates a dataset from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from ebmctl.errors import EbmctlError
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.results.document import Fingerprint, check_finite, fields_of, shown, take
from ebmctl.evaluation.results.tables import CardRow, Table

METRICS = {"auroc": "AUROC", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out", "fpr95": "FPR@95"}
FPR95 = "share of outside images accepted where 95 % of the inside ones are; inside is positive"


@dataclass(frozen=True)
class OutlierRow:
    """The metrics against one outside set, the numbers of images, and the outside images' fingerprint."""

    out: str
    auroc: Interval
    aupr_in: Interval
    aupr_out: Interval
    fpr95: Interval
    n_in: int | None = None
    n_out: int | None = None
    fingerprint: Fingerprint | None = None

    @property
    def metrics(self) -> dict[str, Interval]:
        """The four metrics by their names in `METRICS`."""
        return {name: getattr(self, name) for name in METRICS}


@dataclass(frozen=True)
class OutlierResult:
    """A set against others, at least one, by a score of a model; raises EbmctlError for metrics that are not finite.

    `fingerprint` says which images of the inside set were scored. Older files may lack what can be None.
    """

    inside: str
    score: str
    rows: tuple[OutlierRow, ...]
    fingerprint: Fingerprint | None = None
    model: str | None = None
    model_sha256: str | None = None
    command: str | None = None

    kind: ClassVar = "outliers"
    note: ClassVar = (
        "In brackets 95 % bootstrap intervals. FPR@95: outside images accepted where 95 % of inside ones are."
    )

    def __post_init__(self) -> None:
        if not self.rows:
            raise EbmctlError("there is no out-of-distribution set")
        check_finite(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> OutlierResult:
        """The result that `to_json` described; raises EbmctlError that names what is missing or wrong."""
        inside, rows = take(document, "in", str), take(document, "results", tuple[OutlierRow, ...])
        return cls(inside=inside, rows=rows, **fields_of(cls, document, but=("inside", "rows")))

    def to_json(self) -> dict[str, Any]:
        """The JSON of `ebmctl ood`."""
        return {
            "in": self.inside,
            "fingerprint": self.fingerprint,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "score": self.score,
            "fpr95": FPR95,
            "results": [asdict(row) for row in self.rows],
            "average": self.average,
            "command": self.command,
        }

    @property
    def average(self) -> dict[str, float]:
        """The mean of each metric over the outside sets, as in the last row of the paper's Table 3."""
        return {name: sum(row.metrics[name].value for row in self.rows) / len(self.rows) for name in METRICS}

    @property
    def weights(self) -> tuple[str | None, ...]:
        """The checksum of the model's weights."""
        return (self.model_sha256,)

    @property
    def heading(self) -> str:
        """What the table is of."""
        return f"{self.inside} against other sets, score: {self.score}"

    def public(self) -> OutlierResult:
        """The same without paths of this machine."""
        rows = tuple(replace(row, out=shown(row.out)) for row in self.rows)
        return replace(self, inside=shown(self.inside), model=shown(self.model), rows=rows)

    def table(self) -> Table:
        """The metrics with their intervals, the outside sets in rows, the average last."""
        rows = [
            [
                f"{self.inside} / {row.out}",
                *(f"{metric.value:.3f} ({metric.bounds})" for metric in row.metrics.values()),
                " / ".join(f"{n:,}" for n in (row.n_in, row.n_out) if n is not None),
            ]
            for row in self.rows
        ]
        mean = ["average", *(f"{value:.3f}" for value in self.average.values()), ""]
        return Table(["in / out", *METRICS.values(), "images"], [*rows, mean])

    def card_rows(self, dataset: str) -> list[CardRow]:  # noqa: ARG002  # which the other results may need
        """The metrics as a model card has them, without paths."""
        public = self.public()
        return [
            CardRow(
                "outlier-detection",
                public.inside,
                METRICS[name],
                metric.value,
                f"against {row.out}, 95 % {metric.bounds}, score: {self.score}",
            )
            for row in public.rows
            for name, metric in row.metrics.items()
        ]
