"""The quick score that a training run takes of its averaged weights now and then."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ebmctl.config.schema import EVAL_DISTANCE, EVAL_SCORE, Recipe
from ebmctl.core.buffer import quantize
from ebmctl.data.base import DataRequest
from ebmctl.data.datasets import open_dataset
from ebmctl.data.labels import condition, condition_labels
from ebmctl.evaluation import quality
from ebmctl.evaluation.extractors import find_extractor, need_fidelity
from ebmctl.models.model import Model, sample

BATCH = 128


class TrainingScore:
    """The Fréchet distance of drawn images to held-out ones, and their Inception score, by the recipe's extractor.

    The same held-out images and the same seeds every time, and random numbers of its own, so that training is not
    affected. A conditional model draws each label as often as the held-out images have it.
    """

    def __init__(self, recipe: Recipe, root: Path, device: torch.device) -> None:
        """Extract the features of held-out images; raises EbmctlError if they or the extractor can't be loaded."""
        need_fidelity("metrics")
        data, settings = recipe.data, recipe.eval
        self.extractor = find_extractor(settings.extractor or None, data.dataset, None, device)
        request = DataRequest("test", root, data.size, data.channels)
        held_out = open_dataset(data.dataset, request)
        chosen = torch.randperm(len(held_out), generator=torch.Generator().manual_seed(0))[: settings.n].tolist()
        images, labels = held_out.__getitems__(chosen)
        self.real = quality.extract(self.extractor, torch.split(images, BATCH))
        condition_rows = condition(data.label, held_out, labels)
        counts = [len(chosen)] if condition_rows is None else condition_rows.sum(0).round().long().tolist()
        self.parts = list(zip(condition_labels(recipe, held_out) or (None,), counts, strict=True))

    def __call__(self, model: Model) -> dict[str, float]:
        """The distance and the score of a model; nothing where what it draws is not finite."""
        drawn = self._drawn(model)
        if not drawn.isfinite().all():
            return {}
        generated = quality.extract(self.extractor, torch.split(quantize(drawn).cpu(), BATCH))
        distance, score = quality.compute_metrics(generated, self.real, ["fid", "is"], self.extractor).values()
        return {EVAL_DISTANCE: float(distance.value), EVAL_SCORE: float(score.value)}

    def _drawn(self, model: Model) -> Tensor:
        batches: list[Tensor] = []
        for label, count in self.parts:
            for low in range(0, count, BATCH):
                batches.append(sample(model, min(BATCH, count - low), seed=len(batches), label=label))
        return torch.cat(batches)
