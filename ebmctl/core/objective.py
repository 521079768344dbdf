"""What an objective is: named loss terms of an energy network for a batch of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from ebmctl.core.energy import EnergyNetwork, frozen

Freeze = Callable[[EnergyNetwork], EnergyNetwork]


class LossTerm(NamedTuple):
    """One additive part of a loss, the group that it belongs to, and what the run logs of it (summed over parts)."""

    group: str
    loss: Tensor
    logs: dict[str, Tensor]


class Objective(Protocol):
    """Loss terms for a batch, and the state that is kept from batch to batch.

    The trainer sums the terms' parameter gradients, and logs the gradient's norm of each group apart. With
    `needs_labels` only a conditional model can be trained.
    """

    needs_labels: bool

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """The loss terms for a batch of data (B, C, H, W) in [0, 1] with labels (B, L), or None.

        They are yielded one by one, so that the graph of one can be freed before the next is built.
        """

    def preview(self, count: int) -> Tensor | None:
        """Some of the newest negative samples, (at most count, C, H, W) in [0, 1]; None where there are none."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state, as tensors."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take a state over; raises ValueError where it is of another shape."""
