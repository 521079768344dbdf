"""Out-of-distribution detection: one set against others (the paper's Table 3), or a folder's images one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config.dataset import DatasetName
from ebmctl.data.base import DataRequest, ImageDataset, Split
from ebmctl.data.datasets import open_dataset
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation import scores
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.metrics import intervals
from ebmctl.evaluation.results import OutlierResult, OutlierRow
from ebmctl.models.memory import rows_of
from ebmctl.models.model import Model

SCORES = ("energy", "typicality", "gradient")
TRAINING_IMAGES = 10_000  # from which typicality takes its mean


@dataclass(frozen=True)
class Settings:
    """What is scored and how: a score's name, or `scale-0`, `scale-1`, ...; n images of each set at most.

    Without a score it is the one that the model's recipe names.
    """

    root: Path
    score: str | None = None
    label: str | None = None
    n: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Scored:
    """A set's scores (N,), high for outliers, and its fingerprint."""

    name: str
    scores: Tensor
    fingerprint: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """An outside set against the inside one."""

    outside: Scored
    metrics: dict[str, Interval] = field(default_factory=dict)


class Detector:
    """A model with a score: gives every set's scores from the same preprocessing."""

    def __init__(self, model: Model, inside: DatasetName, settings: Settings) -> None:
        self.model, self.inside, self.settings = model, inside, settings
        self.energy = model.fixed(settings.label)
        self.score_name = settings.score or model.recipe.ood.score
        self.score = self._score(self.score_name)

    def of_set(self, name: DatasetName, split: Split = "test") -> Scored:
        """A dataset's scores; raises EbmctlError that names the first image whose score is not finite."""
        images = EvaluationImages(self._open(name, split), str(name), self.settings.n, self.settings.seed, split=split)
        found = self.of_images(self.score, images)
        bad = (~found.isfinite()).nonzero().flatten()
        if len(bad):
            raise EbmctlError(f"the score of image {images.rows[int(bad[0])]} of {name} ({split}) is NaN or infinite")
        return Scored(str(name), found, images.fingerprint)

    def of_images(self, score: scores.Score, batches: Iterable[Tensor]) -> Tensor:
        """A score (N,) of batches of images (B, C, H, W) in [0, 1], so many at a time as fit the model's memory."""
        return scores.scored(score, self.energy, itertools.chain.from_iterable(map(self._fitting, batches)))

    def _fitting(self, images: Tensor) -> Iterator[Tensor]:
        device = self.model.device
        rows = rows_of(self.energy, len(images), self.model.shape, device)
        return (part.to(device) for part in torch.split(images, rows))

    def compare(self, outside: Sequence[DatasetName]) -> Iterator[Comparison]:
        """The inside set first, then each outside one with its metrics."""
        inside = self.of_set(self.inside)
        yield Comparison(inside)
        for name in outside:
            other = self.of_set(name)
            metrics = intervals(inside.scores.numpy(), other.scores.numpy(), self.settings.seed)
            yield Comparison(other, metrics)

    def result(self, found: Sequence[Comparison], command: str | None = None) -> OutlierResult:
        """The result of what `compare` gave."""
        inside, *others = found
        rows = tuple(
            OutlierRow(
                out=other.outside.name,
                **other.metrics,
                n_in=len(inside.outside.scores),
                n_out=len(other.outside.scores),
                fingerprint=other.outside.fingerprint,
            )
            for other in others
        )
        return OutlierResult(
            inside=str(self.inside),
            score=self.score_name,
            rows=rows,
            fingerprint=inside.outside.fingerprint,
            model=str(self.model.source),
            model_sha256=self.model.sha256(),
            command=command,
        )

    def _open(self, name: DatasetName, split: Split) -> ImageDataset:
        channels, size, _ = self.model.shape
        request = DataRequest(split, self.settings.root, size, channels)
        return open_dataset(name, request)

    def _score(self, name: str) -> scores.Score:
        simple = {"energy": scores.energy, "gradient": scores.gradient}
        if name in simple:
            return simple[name]
        if name == "typicality":
            train = EvaluationImages(
                self._open(self.inside, "train"), str(self.inside), TRAINING_IMAGES, self.settings.seed
            )
            return scores.typicality(float(self.of_images(scores.energy, train).mean()))
        known = [*SCORES, *(f"scale-{index}" for index in range(self.model.scale_count))]
        if name not in known:
            raise UsageError(f"--score must be {', '.join(known[:-1])} or {known[-1]}, not '{name}'")
        return scores.scale(int(name.removeprefix("scale-")))


def resizing(model: Model, name: DatasetName) -> str | None:
    """A line on how a set's images are brought to the model's shape; None where they have it already, or any."""
    if (native := name.native_shape) is None:
        return None
    size, channels = native
    if (channels, size, size) == model.shape:
        return None
    shape = " x ".join(map(str, model.shape))
    return f"{name} is {channels} x {size} x {size}: resized (antialiased, centre crop) to {shape}"
