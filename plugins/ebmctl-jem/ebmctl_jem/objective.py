"""The joint objective: log p(x) + log p(y|x)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

from ebmctl.core.cd import ContrastiveDivergence
from ebmctl.core.config import CDConfig
from ebmctl.core.energy import EnergyNetwork, frozen
from ebmctl.core.langevin import Sampler
from ebmctl.core.objective import Freeze, LossTerm
from ebmctl.core.sampling import Augmentation
from ebmctl_jem.calibration import calibration_error
from ebmctl_jem.config import JemConfig
from ebmctl_jem.net import class_logits


class JointEnergy(ContrastiveDivergence):
    """The objective "jem" (Grathwohl et al. 2019, Algorithm 1).

    log p(x, y) = log p(x) + log p(y|x): the first is contrastive divergence of E(x) = -log sum_y exp f(x)[y] with
    chains from a replay buffer, the second the cross entropy of the logits f(x).
    """

    needs_labels = True

    def __init__(
        self, config: JemConfig, shape: tuple[int, int, int], sampler: Sampler, augmentation: Augmentation
    ) -> None:
        values = dataclasses.asdict(config)
        self.class_weight: float = values.pop("class_weight")
        super().__init__(CDConfig(**values), shape, sampler, augmentation)

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """The loss terms for a batch of data (B, C, H, W) in [0, 1] with one-hot labels (B, L)."""
        assert label is not None  # needs_labels
        yield classification_loss(class_logits(network, positives), label, self.class_weight)
        yield from super().losses(network, positives, None, freeze)


def classification_loss(logits: Tensor, label: Tensor, weight: float) -> LossTerm:
    """The weighted cross entropy of logits (B, L) and one-hot labels (B, L), with accuracy and calibration error.

    Images whose label is all 0 (`data.label_dropout`) weigh nothing; all values are 0 where that is every image.
    """
    known, classes = label.any(1), label.argmax(1)
    share = known / known.sum().clamp_min(1)  # (B,), 1 in all
    loss = weight * (F.cross_entropy(logits, classes, reduction="none") * share).sum()
    probabilities = logits.detach().softmax(1)
    logs = {
        "loss_class": loss.detach(),
        "accuracy": ((probabilities.argmax(1) == classes) * share).sum(),
        "ece": calibration_error(probabilities, classes, share),
    }
    return LossTerm("class", loss, logs)
