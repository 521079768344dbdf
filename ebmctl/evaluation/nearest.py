"""Nearest training images, and the memorisation metric (the paper's Figure 13)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ebmctl.evaluation.results import Metric


class Neighbours:
    """Distances to the training images' rows (N, D), such as their pixels or what an extractor sees in them."""

    def __init__(self, train: Tensor, batch: int = 4096) -> None:
        if len(train) < 2:
            raise ValueError("neighbours take at least two training images")
        self.train, self.batch = train, batch

    def of(self, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k smallest distances (B, k), ascending, of rows (B, D) and whose they are, (B, k)."""
        best = rows.new_full((len(rows), 0), 0.0), torch.zeros(len(rows), 0, dtype=torch.long)
        for low in range(0, len(self.train), self.batch):
            distances = torch.cdist(
                rows, self.train[low : low + self.batch], compute_mode="donot_use_mm_for_euclid_dist"
            )
            number = torch.arange(low, low + distances.shape[1]).expand(len(rows), -1)
            together, numbers = torch.cat([best[0], distances], 1), torch.cat([best[1], number], 1)
            found = together.topk(min(k, together.shape[1]), largest=False)
            best = found.values, numbers.gather(1, found.indices)
        return best

    def memorised(self, rows: Tensor) -> float:
        """The share of rows (B, D) that are nearer to their nearest training image than any other of those is to it."""
        distances, numbers = self.of(rows, 1)
        others = self.of(self.train[numbers[:, 0]], 2)[0][:, 1]  # the nearest is the image itself
        return float((distances[:, 0] < others).double().mean())


def flat(batches: Iterable[Tensor]) -> Tensor:
    """uint8 images (B, C, H, W) in batches as rows (N, D) in [0, 1]."""
    return torch.cat([pixels.flatten(1) for pixels in batches]).float() / 255


def memorisation(samples: Tensor, held_out: Tensor, neighbours: Neighbours, distance: str) -> Metric:
    """The share of memorised samples, beside that of held-out images, which no model has memorised."""
    return Metric(
        neighbours.memorised(samples),
        held_out=neighbours.memorised(held_out),
        distance=distance,
        n=len(samples),
        n_held_out=len(held_out),
        n_real=len(neighbours.train),
    )
