"""The order of the data: a function of the seed and the step alone, so that any run can be resumed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class Order(Protocol):
    """Which images make the batch of a step."""

    def batch(self, step: int) -> list[int]:
        """The indices of the batch of a step, counted from 0."""


class IndexOrder:
    """The epochs' random permutations one after the other, cut into batches, and these into a share for each rank."""

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, ranks: int = 1) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError("length and batch_size must be at least 1")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.rank, self.ranks = rank, ranks
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def batch(self, step: int) -> list[int]:
        """The indices of this rank's batch of a step, counted from 0."""
        position, indices = (step * self.ranks + self.rank) * self.batch_size, list[int]()
        while len(indices) < self.batch_size:
            epoch, offset = divmod(position + len(indices), self.length)
            indices += self._order(epoch)[offset : offset + self.batch_size - len(indices)].tolist()
        return indices

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch != self._epoch:
            self._epoch, self._permutation = epoch, permutation(self.length, self.seed, epoch)
        return self._permutation


class ShardOrder:
    """Shards in a random order, each rank with its own, and their images shuffled within a window of a few shards.

    Reads go through the files almost in sequence, and memory does not grow with the data.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int, rank: int = 0, ranks: int = 1, window: int = 4
    ) -> None:
        self.starts = [0]
        for length in lengths:
            self.starts.append(self.starts[-1] + length)
        self.shards = list(range(rank, len(lengths), ranks)) or list(range(len(lengths)))
        self.length = sum(lengths[shard] for shard in self.shards)
        if self.length < 1 or batch_size < 1:
            raise ValueError("length and batch_size must be at least 1")
        self.lengths, self.batch_size, self.seed, self.window = lengths, batch_size, seed, window
        self._epoch, self._order = -1, list[int]()
        self._window, self._indices = (-1, -1), torch.empty(0, dtype=torch.long)

    def batch(self, step: int) -> list[int]:
        """The indices of this rank's batch of a step, counted from 0."""
        position, indices = step * self.batch_size, list[int]()
        while len(indices) < self.batch_size:
            epoch, offset = divmod(position + len(indices), self.length)
            window, offset = self._find(epoch, offset)
            indices += self._load(epoch, window)[offset : offset + self.batch_size - len(indices)].tolist()
        return indices

    def _find(self, epoch: int, offset: int) -> tuple[int, int]:
        """The window of an epoch that a position falls into, and where in it."""
        if epoch != self._epoch:
            order = permutation(len(self.shards), self.seed, epoch).tolist()
            self._epoch, self._order = epoch, [self.shards[i] for i in order]
        for first in range(0, len(self._order), self.window):
            count = sum(self.lengths[shard] for shard in self._order[first : first + self.window])
            if offset < count:
                return first, offset
            offset -= count
        raise AssertionError

    def _load(self, epoch: int, first: int) -> torch.Tensor:
        if self._window != (epoch, first):
            parts = [
                torch.arange(self.starts[shard], self.starts[shard + 1])
                for shard in self._order[first : first + self.window]
            ]
            joined = torch.cat(parts)
            self._window = (epoch, first)
            self._indices = joined[permutation(len(joined), self.seed + 1, epoch * len(self._order) + first)]
        return self._indices


def permutation(length: int, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of 0 to length - 1, (length,), of an epoch."""
    draw = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(length, generator=draw)
