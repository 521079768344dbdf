"""All figures of a model that `ebmctl evaluate` gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ebmctl import registry
from ebmctl.data.base import DataRequest, ImageDataset, Split
from ebmctl.data.datasets import open_dataset
from ebmctl.evaluation import quality
from ebmctl.evaluation.extractors import Extractor
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.images import TestImages
from ebmctl.evaluation.likelihood import Likelihood, LikelihoodSettings
from ebmctl.evaluation.paper_figures import PaperFigures
from ebmctl.model import Model

FIGURE_SAMPLES = 300
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Reference:
    """The images that the generated ones are compared with: a split of a dataset, or `n` of it chosen by a seed."""

    data: str
    root: Path
    split: Split = "train"
    n: int | None = None
    seed: int = 0

    def open(self, model: Model, split: Split | None = None, n: int | None = None) -> TestImages:
        """The images in the model's shape."""
        channels, size, _ = model.shape
        request = DataRequest(split or self.split, self.root, size, channels)
        dataset: ImageDataset = open_dataset(self.data, request, lambda name: registry.find("dataset", name).make)
        return TestImages(dataset, self.data, n or self.n, self.seed, split=split or self.split)


@dataclass(frozen=True)
class Evaluation:
    """What is asked of a model; `told(what, done, all)` hears how far it is."""

    model: Model
    reference: Reference
    told: Told
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    def quality(self, metrics: list[str], extractor: Extractor, plan: Generation, keep: Path | None) -> None:
        """Figures of generated images against the split."""
        images = self.reference.open(self.model)
        done = 0

        def counted(count: int) -> None:
            nonlocal done
            done += count
            self.told("real images seen", done, len(images))

        real = quality.seen(extractor, (_after(pixels, counted) for pixels in images.pixels()))
        drawn = plan.pixels(self.model, keep, lambda done, n: self.told("images drawn", done, n))
        figures = quality.figures(quality.seen(extractor, drawn), real, metrics, extractor)
        self.found.update({name: {**values, **_source(images)} for name, values in figures.items()})

    def likelihood(self, settings: LikelihoodSettings, n: int) -> None:
        """log Z, and bits per dimension of n images of the test split at most."""
        likelihood = Likelihood(self.model, settings, lambda done, n: self.told("levels of annealing", done, n))
        images = self.reference.open(self.model, "test", n)
        bits = likelihood.bits(images.pixels())
        self.found["log_z"] = likelihood.described()
        self.found["bits_per_dimension"] = {**bits, **_source(images)}

    def figures(self, figures: PaperFigures, extractor: Extractor | None, plan: Generation, keep: Path | None) -> None:
        """The paper's figures, of up to `FIGURE_SAMPLES` drawn images and as many of the test split."""
        few = replace(plan, n=min(plan.n, FIGURE_SAMPLES))
        drawn = few.pixels(self.model, keep, lambda done, n: self.told("images drawn", done, n))
        samples = torch.cat(list(drawn))
        figures.chains(samples)
        train, held_out = (
            self.reference.open(self.model, "train"),
            self.reference.open(self.model, "test", len(samples)),
        )
        figures.nearest(samples, train, held_out, extractor)
        self.found.update(figures.found)


def _after(value: Any, counted: Callable[[int], None]) -> Any:
    counted(len(value))
    return value


def _source(images: TestImages) -> dict[str, Any]:
    print_ = images.fingerprint
    return {"data": print_["dataset"], "split": print_["split"], "images_sha256": print_["sha256_all"]}
