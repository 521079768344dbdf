"""What `ebmctl compose --check` finds: how often a classifier sees each term in images that were composed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.results.document import check_finite, fields_of, shown, take
from ebmctl.evaluation.results.tables import CardRow, Table


@dataclass(frozen=True)
class PixelStatistic:
    """A statistic of the pixels of composed images, and the same of held-out data."""

    composed: float
    data: float


@dataclass(frozen=True)
class Histograms:
    """The shares of pixel values in bins of the same width from 0 to 1, of composed images and of held-out data."""

    composed: tuple[float, ...]
    data: tuple[float, ...]

    def to_json(self) -> dict[str, list[float]]:
        """Both by name."""
        return {"composed": list(self.composed), "data": list(self.data)}


@dataclass(frozen=True)
class Judge:
    """The classifier that looked for the terms: the dataset it was trained on, and its weights' checksum."""

    dataset: str
    sha256: str | None = None


@dataclass(frozen=True)
class _Found:
    accuracy: Interval


@dataclass(frozen=True)
class CompositionResult:
    """What a classifier finds in `n` images of an expression; raises EbmctlError for values that are not finite.

    `attributes` has for each term of the expression the share of images in which the classifier finds it, `joint` is
    that of images in which it finds all. `diversity` is the mean distance of two images over that of two of the
    `held_out` images for which the expression holds, None where there are no two. `look` has statistics of the pixels.
    `models` are the concepts' with their weights' checksums, `reported` is what the sampler reports about its steps.
    Older files may lack what has a default.
    """

    expression: str
    models: Mapping[str, str | None]
    n: int
    attributes: Mapping[str, Interval]
    joint: Interval
    classifier: Judge
    algebra: Mapping[str, bool | float | None] | None = None
    seed: int | None = None
    output: str | None = None
    reported: Mapping[str, float] = field(default_factory=dict)
    diversity: float | None = None
    look: Mapping[str, PixelStatistic] | None = None
    histogram: Histograms | None = None
    held_out: int | None = None
    command: str | None = None

    kind: ClassVar = "composition"

    def __post_init__(self) -> None:
        check_finite(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CompositionResult:
        """The result that `to_json` described; raises EbmctlError that names what is missing or wrong."""
        attributes = {name: f.accuracy for name, f in take(document, "attributes", Mapping[str, _Found]).items()}
        own = {f.name for f in fields(cls)}
        reported = {
            key: take(document, key, float)
            for key, value in document.items()
            if key not in own and type(value) in (int, float)
        }
        return cls(attributes=attributes, reported=reported, **fields_of(cls, document, but=("attributes", "reported")))

    def to_json(self) -> dict[str, Any]:
        """The JSON of `ebmctl compose --check`; nothing that a sampler reports replaces another value."""
        drawn = {name: getattr(self, name) for name in ("expression", "models", "algebra", "seed", "n", "output")}
        found = {
            "attributes": {name: {"accuracy": asdict(share)} for name, share in self.attributes.items()},
            "joint": asdict(self.joint),
            "diversity": self.diversity,
            "look": None if self.look is None else {name: asdict(values) for name, values in self.look.items()},
            "histogram": None if self.histogram is None else self.histogram.to_json(),
            "classifier": asdict(self.classifier),
            "held_out": self.held_out,
            "command": self.command,
        }
        return drawn | dict(self.reported) | drawn | found

    @property
    def weights(self) -> tuple[str | None, ...]:
        """The checksums of the concepts' weights."""
        return tuple(self.models.values())

    @property
    def shares(self) -> dict[str, Interval]:
        """The accuracy of each term, and that of all of them together."""
        return {**self.attributes, "all": self.joint}

    @property
    def heading(self) -> str:
        """What the table is of."""
        return self.expression if self.seed is None else f"{self.expression}, seed {self.seed}"

    @property
    def note(self) -> str:
        """The number of images, their judge, and the held-out data."""
        judged = f"{self.n:,} images, judged by a classifier of {self.classifier.dataset}"
        if self.held_out is None:
            return judged
        alike = f"the {self.held_out:,} images for which the expression holds"
        data = alike if self.held_out > 1 else "all images, as the expression holds for none"
        return f"{judged}; held-out data: {data}"

    def public(self) -> CompositionResult:
        """The same without paths of this machine."""
        return replace(self, classifier=replace(self.classifier, dataset=shown(self.classifier.dataset)))

    def table(self) -> Table:
        """Accuracies with intervals, then how the images look beside the data."""
        rows = [[name, f"{share.value:.3f}", share.bounds, ""] for name, share in self.shares.items()]
        rows.append(["diversity", "none" if self.diversity is None else f"{self.diversity:.3f}", "", "1.000"])
        for name, values in (self.look or {}).items():
            rows.append([name, f"{values.composed:.3f}", "", f"{values.data:.3f}"])
        return Table(["", "composed", "95 %", "data"], rows)

    def card_rows(self, dataset: str) -> list[CardRow]:  # noqa: ARG002  # the classifier's is meant
        """How often each term, and all of them, are found, as a model card has it, without paths."""
        data = self.public().classifier.dataset
        return [
            CardRow(
                "conditional-image-generation",
                data,
                "Accuracy",
                share.value,
                f"{name} in {self.expression}, 95 % {share.bounds}, {self.n:,} samples",
            )
            for name, share in self.shares.items()
        ]
