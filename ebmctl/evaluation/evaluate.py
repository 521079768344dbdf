"""Everything that `ebmctl evaluate` computes about a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config.dataset import DatasetName
from ebmctl.data.base import DataRequest, Split
from ebmctl.data.datasets import open_dataset
from ebmctl.errors import EbmctlError
from ebmctl.evaluation import quality
from ebmctl.evaluation.extractors import Extractor, find_extractor, need_fidelity
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.likelihood import Likelihood, LikelihoodSettings
from ebmctl.evaluation.panels import new_figure
from ebmctl.evaluation.paper_figures import PaperFigures
from ebmctl.evaluation.results import Metric
from ebmctl.models.memory import free_bytes
from ebmctl.models.model import Model

FIGURE_SAMPLES = 300
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reference:
    """The images that the generated ones are compared with: a split of a dataset, or `n` of it chosen by a seed."""

    data: DatasetName
    root: Path
    split: Split = "train"
    n: int | None = None
    seed: int = 0

    def open(self, model: Model, split: Split | None = None, n: int | None = None) -> EvaluationImages:
        """The images in the model's shape."""
        channels, size, _ = model.shape
        request = DataRequest(split or self.split, self.root, size, channels)
        dataset = open_dataset(self.data, request)
        return EvaluationImages(dataset, str(self.data), n or self.n, self.seed, split=split or self.split)


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate: names of `quality.METRICS` and "bits"; and the folder for figures.

    `run_metrics` is the metrics.jsonl of the model's training, if it is there.
    """

    metrics: Sequence[str]
    generation: Generation
    likelihood: LikelihoodSettings
    figures: Path | None = None
    extractor: str | None = None
    inception_weights: Path | None = None
    keep: Path | None = None
    run_metrics: Path | None = None

    @property
    def quality(self) -> list[str]:
        """The requested quality metrics."""
        return [name for name in quality.METRICS if name in self.metrics]


@dataclass(frozen=True)
class Evaluation:
    """Evaluates a model; `progress(what, done, all)` is called as it proceeds, `log(line)` for what is left out."""

    model: Model
    reference: Reference
    progress: Progress
    log: Callable[[str], None]
    found: dict[str, Metric] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    drawn: list[Tensor] = field(default_factory=list)  # batches, up to `FIGURE_SAMPLES` images

    def run(self, request: EvaluationRequest) -> None:
        """Compute and draw all that is requested; raises EbmctlError up front if a package is missing."""
        if request.figures:
            new_figure(1, 1)
        if request.quality:
            need_fidelity("metrics")
        extractor = self._extractor(request)
        if request.quality and extractor:
            many, free = request.generation, free_bytes(torch.device("cpu"))
            quality.check_memory(extractor, self.model.shape, many.n, many.batch, free)
            self.quality(request.quality, extractor, request.generation, request.keep)
        if "bits" in request.metrics:
            self.likelihood(request.likelihood, request.generation.n)
        if request.figures:
            figures = PaperFigures(
                self.model, request.figures, self.log, request.generation.label, request.generation.seed
            )
            self.figures(figures, extractor, request)
            figures.training(request.run_metrics)
            self.written.extend(figures.written)

    def _extractor(self, request: EvaluationRequest) -> Extractor | None:
        """For quality and feature distances; figures alone do without if none is named or available offline."""
        device = next(self.model.network.parameters()).device
        named = request.extractor or request.inception_weights
        if not request.quality and not (request.figures and (named or self.reference.data.offline)):
            return None
        try:
            return find_extractor(request.extractor, self.reference.data, request.inception_weights, device)
        except EbmctlError as error:
            if request.quality or named:
                raise
            self.log(f"without feature distances: {error}")
            return None

    def quality(self, metrics: Sequence[str], extractor: Extractor, generation: Generation, keep: Path | None) -> None:
        """Quality metrics of generated images against the split."""
        images = self.reference.open(self.model)
        done = 0

        def counted(count: int) -> None:
            nonlocal done
            done += count
            self.progress("real images processed", done, len(images))

        real = quality.extract(extractor, (_after(pixels, counted) for pixels in images.pixels()))
        drawn = self._drawn(generation, keep)
        found = quality.compute_metrics(quality.extract(extractor, drawn), real, metrics, extractor)
        self.found.update({name: _of(images, metric) for name, metric in found.items()})

    def likelihood(self, settings: LikelihoodSettings, n: int) -> None:
        """log Z, and bits per dimension of n images of the test split at most."""
        likelihood = Likelihood(self.model, settings, lambda done, n: self.progress("annealing levels", done, n))
        images = self.reference.open(self.model, "test", n)
        bits = likelihood.bits(images.pixels())
        self.found["log_z"] = likelihood.described()
        self.found["bits_per_dimension"] = _of(images, bits)

    def figures(self, figures: PaperFigures, extractor: Extractor | None, request: EvaluationRequest) -> None:
        """The paper's figures, of up to `FIGURE_SAMPLES` drawn images and as many of the test split."""
        if not self.drawn:
            few = replace(request.generation, n=min(request.generation.n, FIGURE_SAMPLES))
            list(self._drawn(few, request.keep))
        samples = torch.cat(self.drawn)[:FIGURE_SAMPLES]
        figures.chains(samples)
        train = self.reference.open(self.model, "train")
        held_out = self.reference.open(self.model, "test", len(samples))
        figures.nearest(samples, train, held_out, extractor)
        self.found.update(figures.found)

    def _drawn(self, generation: Generation, keep: Path | None) -> Iterator[Tensor]:
        """The batches of generated images, the first of which are kept for the figures."""
        for pixels in generation.pixels(self.model, keep, lambda done, n: self.progress("images generated", done, n)):
            if sum(map(len, self.drawn)) < FIGURE_SAMPLES:
                self.drawn.append(pixels)
            yield pixels


def _after(value: Any, counted: Callable[[int], None]) -> Any:
    counted(len(value))
    return value


def _of(images: EvaluationImages, metric: Metric) -> Metric:
    """A metric with the images that it was computed from, all of which have been read."""
    return replace(metric, data=images.name, split=images.split, images_sha256=images.fingerprint["sha256_all"])
