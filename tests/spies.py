"""Stand-ins that show what a training step is given, and what it makes of other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ebmctl.core.energy import EnergyNetwork, frozen
from ebmctl.core.objective import Freeze, LossTerm
from ebmctl.training.trainer import Trainer


class OneOfTwo:
    """The accelerator of one of two processes; `gradient` and `gathered` make the other's tensors from this one's."""

    num_processes = 2
    device = torch.device("cpu")

    def __init__(
        self,
        rank: int = 0,
        gradient: Callable[[Tensor], Tensor] = torch.clone,
        gathered: Callable[[Tensor], Tensor] = torch.clone,
    ) -> None:
        self.process_index, self.is_main_process = rank, rank == 0
        self.gradient, self.gathered = gradient, gathered

    def reduce(self, tensor: Tensor, reduction: str = "sum") -> Tensor:
        both = torch.stack([tensor, self.gradient(tensor)])
        return {"sum": both.sum(0), "mean": both.mean(0)}[reduction]

    def gather(self, tensor: Tensor) -> Tensor:
        return torch.cat([tensor, self.gathered(tensor)])


class Spy:
    """An objective that keeps the data and the labels that it is given; its loss is the mean energy."""

    needs_labels = False

    def __init__(self) -> None:
        self.positives: list[Tensor] = []
        self.labels: list[Tensor | None] = []

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        self.positives.append(positives)
        self.labels.append(label)
        yield LossTerm("spy", network(positives, label).mean(), {})

    def preview(self, count: int) -> None:
        return None


def spied(made: Trainer) -> Spy:
    """A spy in place of the objective of every phase."""
    spy = Spy()
    made.objective, made.objectives = spy, [spy] * len(made.objectives)
    return spy


def gradients_of(made: Trainer) -> list[list[Tensor]]:
    """A list that every coming step adds its gradient to, as it is before it is clipped."""
    seen, average = [], made.average

    def kept(gradients):
        total = average(gradients)
        seen.append([part.clone() for part in total])
        return total

    made.average = kept
    return seen
