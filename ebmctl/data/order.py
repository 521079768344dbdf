"""The order of the data: a function of the seed and the step alone, so that any run can be resumed."""

from __future__ import annotations

import torch


class IndexOrder:
    """The epochs' random permutations one after the other, cut into batches."""

    def __init__(self, length: int, batch_size: int, seed: int) -> None:
        if length < 1 or batch_size < 1:
            raise ValueError("length and batch_size are at least 1")
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.long)

    def batch(self, step: int) -> list[int]:
        """The indices of the batch of a step, counted from 0."""
        position, indices = step * self.batch_size, list[int]()
        while len(indices) < self.batch_size:
            epoch, offset = divmod(position + len(indices), self.length)
            indices += self._order(epoch)[offset : offset + self.batch_size - len(indices)].tolist()
        return indices

    def _order(self, epoch: int) -> torch.Tensor:
        if epoch != self._epoch:
            draw = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._epoch, self._permutation = epoch, torch.randperm(self.length, generator=draw)
        return self._permutation
