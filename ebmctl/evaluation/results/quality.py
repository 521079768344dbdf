"""What `ebmctl evaluate` finds: metrics of sample quality, memorisation and likelihood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from ebmctl.evaluation.results.document import Scalar, check_finite, fields_of, shown, take
from ebmctl.evaluation.results.tables import CardRow, Table


@dataclass(frozen=True)
class Metric:
    """A value with what it depends on, as far as that is known.

    `std` is a standard deviation, `low` and `high` are a 95 % interval, `held_out` is the value of `n_held_out` images
    that no model has seen. `n` images were compared with `n_real` of `split` of `data`, whose pixels have the checksum.
    `forward` to `acceptance` say how well log Z is known (see `core.ais.LogZ`), `splits` to `neighbours` how the metric
    is computed (see `quality.compute_metrics`). `more` is whatever else the JSON of the metric says.
    """

    value: float
    std: float | None = None
    low: float | None = None
    high: float | None = None
    held_out: float | None = None
    forward: float | None = None
    reverse: float | None = None
    effective: float | None = None
    acceptance: float | None = None
    distance: str | None = None
    splits: int | None = None
    subsets: int | None = None
    subset_size: int | None = None
    neighbours: int | None = None
    extractor: str | None = None
    weights_sha256: str | None = None
    resize: str | None = None
    n: int | None = None
    n_held_out: int | None = None
    n_real: int | None = None
    temperature: float | None = None
    data: str | None = None
    split: str | None = None
    images_sha256: str | None = None
    more: Mapping[str, Scalar] = field(default_factory=dict)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], where: str = "") -> Metric:
        """The metric that `to_json` described; raises UsageError that names what is missing or wrong in `where`."""
        known = fields_of(cls, document, ("more",), where)
        return cls(**known, more={key: take(document, key, Scalar, where) for key in document if key not in known})

    def to_json(self) -> dict[str, Any]:
        """What is known, by name."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "more"}
        return {name: value for name, value in known.items() if value is not None} | dict(self.more)

    @property
    def formatted(self) -> str:
        """The value with its interval, the held-out images' own, or its deviation."""
        text = f"{self.value:.4g}"
        if self.low is not None and self.high is not None:
            return f"{text} ({self.low:.4g} to {self.high:.4g})"
        if self.held_out is not None:
            return f"{text}, held-out {self.held_out:.4g}"
        return text if self.std is None else f"{text} ± {self.std:.2g}"

    @property
    def about(self) -> str:
        """What the metric was computed from: extractor, temperature, images."""
        parts = [self.extractor] if self.extractor is not None else []
        if self.temperature is not None:
            parts.append(f"temperature {self.temperature:g}")
        if self.effective is not None and self.acceptance is not None:
            parts.append(f"effective {self.effective:.2f}, acceptance {self.acceptance:.2f}")
        if self.n is not None and self.data is not None:
            real = "" if self.n_real is None else f"samples, {self.n_real:,} "
            parts.append(f"{self.n:,} {real}of {self.data} {self.split or ''}".rstrip())
        return ", ".join(parts)

    def public(self) -> Metric:
        """The same without paths of this machine."""
        return replace(self, data=shown(self.data), extractor=shown(self.extractor))


@dataclass(frozen=True)
class QualityResult:
    """The metrics of a model by name; raises EbmctlError for one that is not finite.

    `n` images were drawn with `seed`, and compared with `split` of `data`. `figures` are the pictures that were drawn,
    `report` is the page that was written, if any. Older files may lack what can be None.
    """

    metrics: Mapping[str, Metric]
    model: str | None = None
    model_sha256: str | None = None
    n: int | None = None
    data: str | None = None
    split: str | None = None
    seed: int | None = None
    figures: tuple[str, ...] | None = None
    report: str | None = None
    command: str | None = None

    kind: ClassVar = "quality"
    note: ClassVar = ""

    def __post_init__(self) -> None:
        check_finite(self.metrics)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> QualityResult:
        """The result that `to_json` described; raises EbmctlError that names what is missing or wrong."""
        documents = take(document, "metrics", Mapping[str, Mapping[str, Any]])
        metrics = {name: Metric.from_json(values, f"metrics.{name}.") for name, values in documents.items()}
        return cls(metrics=metrics, **fields_of(cls, document, but=("metrics",)))

    def to_json(self) -> dict[str, Any]:
        """The JSON of `ebmctl evaluate`."""
        written = {
            **({} if self.figures is None else {"figures": list(self.figures)}),
            **({} if self.report is None else {"report": self.report}),
        }
        return {
            "model": self.model,
            "model_sha256": self.model_sha256,
            "n": self.n,
            "data": self.data,
            "split": self.split,
            "seed": self.seed,
            **written,
            "command": self.command,
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
        }

    @property
    def weights(self) -> tuple[str | None, ...]:
        """The checksum of the model's weights."""
        return (self.model_sha256,)

    @property
    def heading(self) -> str:
        """What the table is of."""
        images = "images" if self.n is None else f"{self.n:,} images"
        return images if self.seed is None else f"{images}, seed {self.seed}"

    def public(self) -> QualityResult:
        """The same without paths of this machine."""
        metrics = {}
        for name, metric in self.metrics.items():  # whose names may have the extractor's within them
            public = name.replace(metric.extractor, shown(metric.extractor)) if metric.extractor else name
            metrics[public] = metric.public()
        return replace(self, metrics=metrics, model=shown(self.model), data=shown(self.data))

    def table(self) -> Table:
        """The metrics, each with what it was computed from."""
        rows = [[name, metric.formatted, metric.about] for name, metric in self.metrics.items()]
        return Table(["metric", "value", "details"], rows, text_last=True)

    def card_rows(self, dataset: str) -> list[CardRow]:
        """The metrics as a model card has them, without paths; of `dataset` where the result does not say of which."""
        public = self.public()
        drawn = "" if self.n is None else f"{self.n:,} samples, "
        return [
            CardRow(
                "unconditional-image-generation",
                public.data or dataset,
                name,
                metric.value,
                f"{drawn}extractor {metric.extractor or ''}",
                public.split or "test",
            )
            for name, metric in public.metrics.items()
        ]
