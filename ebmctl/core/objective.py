"""What an objective is: named loss terms of an energy network for a batch of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from ebmctl.core.buffer import ReplayBuffer
from ebmctl.core.energy import EnergyNetwork, frozen

Freeze = Callable[[EnergyNetwork], EnergyNetwork]


class LossTerm(NamedTuple):
    """One additive part of a loss, the group that it belongs to, and what the run logs of it (summed over parts)."""

    group: str
    loss: Tensor
    logs: dict[str, Tensor]


class Objective:
    """Loss terms for a batch, and the state that is kept from batch to batch.

    The trainer sums the terms' parameter gradients, and logs the gradient's norm of each group apart. With
    `needs_labels` only a conditional model can be trained. `buffer` is the replay buffer, if there is one;
    `chain_steps` is K, the number of sampler steps in a chain, or 0 without chains.

    Only `losses` has to be written: an objective without chains and without state inherits everything else.
    """

    needs_labels: bool = False
    buffer: ReplayBuffer | None = None

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """The loss terms for a batch of data (B, C, H, W) in [0, 1] with labels (B, L), or None.

        They are yielded one by one, so that the graph of one can be freed before the next is built. `freeze` gives the
        network with fixed parameters.
        """
        raise NotImplementedError

    def fit_memory(self, network: EnergyNetwork, label: Tensor | None, batch: int, free: int) -> None:
        """Choose how much of a batch is computed at a time, for so many bytes of free memory; nothing by default.

        The label, (1, L), is any one. Called before training, and only on a CUDA GPU.
        """

    def need_less_memory(self) -> str:
        """After a step ran out of memory: compute less at a time, and say so in a few words; empty if it can't be."""
        return ""

    @property
    def chain_steps(self) -> int:
        """Sampler steps in a chain."""
        return 0

    def with_chain_steps(self, steps: int) -> Objective:  # noqa: ARG002  # without chains there is nothing to change
        """The same objective, with the same state, but for the length of its chains: to measure what a step costs."""
        return self

    def preview(self, count: int) -> Tensor | None:  # noqa: ARG002
        """Some of the newest negative samples, (at most count, C, H, W) in [0, 1]; None where there are none."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """The state, as tensors."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state; raises ValueError if it has another shape."""
