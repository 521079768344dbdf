"""What an independent classifier finds in composed samples, and how they look beside the data (the paper's Table 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ebmctl.compose.composition import Composition
from ebmctl.compose.expression import And, Concept, Expression, Not, Weighted
from ebmctl.data.base import DataRequest, ImageDataset
from ebmctl.data.datasets import default_root, open_dataset
from ebmctl.data.transform import to_float
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation.intervals import Interval, wilson
from ebmctl.evaluation.pixels import histogram, look, spread
from ebmctl.evaluation.results import CompositionResult, Histograms, Judge
from ebmctl.models.classifier import Classifier, Head, default_classifier, heads_of, load_classifier, targets
from ebmctl.models.model import Model

Decide = Callable[[Concept], Tensor]  # whether images have what a concept says, (B,)
DATA = 5_000  # held-out images at most


@dataclass(frozen=True)
class Check:
    """A composition with its judge and held-out images, all loaded before anything is drawn."""

    composed: Composition
    judge: Classifier
    dataset: ImageDataset

    def __call__(
        self,
        samples: Tensor,
        seed: int = 0,
        output: str | None = None,
        reported: Mapping[str, float] | None = None,
        command: str | None = None,
    ) -> CompositionResult:
        """Check samples (n, C, H, W) in [0, 1], drawn with a seed by a command, whose picture is `output`.

        The seed chooses the held-out images, too. The look of the samples stands beside that of the held-out images for
        which the expression holds (all of them, where it holds for none). `reported` is what the sampler reports.
        """
        expression = self.composed.expression
        terms = expression.terms if isinstance(expression, And) else (expression,)
        decide = _decide(self.composed, self.judge.config.heads, self.judge.decide(samples))
        found = {_name(term): holds(term, decide) for term in terms}
        samples = samples.cpu()  # as the held-out images are
        alike, all_of_them = self._held_out(seed)
        reference = alike if len(alike) > 1 else all_of_them
        return CompositionResult(
            expression=str(expression),
            **self.composed.described(),
            seed=seed,
            n=len(samples),
            output=output,
            reported=reported or {},
            attributes={name: _share(values) for name, values in found.items()},
            joint=_share(torch.stack(list(found.values())).all(0)),
            diversity=spread(samples) / spread(alike) if min(len(samples), len(alike)) > 1 else None,
            look=look(samples, reference),
            histogram=Histograms(tuple(histogram(samples).tolist()), tuple(histogram(reference).tolist())),
            classifier=Judge(self.judge.config.dataset, self.judge.sha256()),
            held_out=len(alike),
            command=command,
        )

    def _held_out(self, seed: int) -> tuple[Tensor, Tensor]:
        """Held-out images for which the expression holds, and all of them, in an order that the seed decides."""
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(self.dataset), generator=draw)[:DATA].tolist()
        images, labels = self.dataset.__getitems__(rows)
        heads = heads_of(self.dataset)
        fits = holds(self.composed.expression, _decide(self.composed, heads, targets(heads, self.dataset, labels)))
        return to_float(images[fits]), to_float(images)


def prepare(composed: Composition, classifier: str | None = None) -> Check:
    """A check by a classifier, which is the zoo's of the dataset that the first concept was trained on unless given.

    Raises EbmctlError if it or the held-out images are not available, UsageError for a concept unknown to it.
    """
    name = composed.first.recipe.data.dataset
    device = composed.first.device
    judge = load_classifier(classifier, device) if classifier else default_classifier(str(name), device)
    channels, size, _ = composed.first.shape
    if (judge.config.channels, judge.config.size) != (channels, size):
        raise UsageError(f"the classifier of {judge.config.dataset} expects images of another size")
    try:
        request = DataRequest("test", default_root(), size, channels)
        dataset = open_dataset(name, request)
    except EbmctlError as error:
        raise EbmctlError(f"--check needs held-out images: {error}") from error
    for concept, label in composed.labels.items():
        for heads in (judge.config.heads, heads_of(dataset)):
            _value(composed.models[concept.name], label, heads)
    return Check(composed, judge, dataset)


def holds(expression: Expression, decide: Decide) -> Tensor:
    """Whether an expression is true of images, (B,); weights change nothing."""
    if isinstance(expression, Concept):
        return decide(expression)
    if isinstance(expression, Weighted):
        return holds(expression.term, decide)
    if isinstance(expression, Not):
        return ~holds(expression.term, decide)
    parts = torch.stack([holds(term, decide) for term in expression.terms])
    return parts.all(0) if isinstance(expression, And) else parts.any(0)


def _name(term: Expression) -> str:
    return str(term.term if isinstance(term, Weighted) else term)


def _share(values: Tensor) -> Interval:
    return wilson(int(values.sum()), len(values))


def _decide(composed: Composition, heads: tuple[Head, ...], found: Mapping[str, Tensor]) -> Decide:
    def decide(concept: Concept) -> Tensor:
        name, index = _value(composed.models[concept.name], composed.labels[concept], heads)
        return found[name] == index

    return decide


def _value(model: Model, label: str, heads: tuple[Head, ...]) -> tuple[str, int]:
    """The head for a model's label, and the index of the label among its values."""
    attribute = model.recipe.data.label
    for head in heads:
        values = [value.rpartition("=")[2] for value in head.values]
        if head.name == attribute and (value := label.rpartition("=")[2]) in values:
            return head.name, values.index(value)
    raise UsageError(f"can't check '{label}'; attributes that can be checked: {', '.join(head.name for head in heads)}")
