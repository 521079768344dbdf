"""Endless batches of a dataset, optionally prefetched by worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Sampler

from ebmctl.data.base import ImageBatch, ImageDataset
from ebmctl.data.order import Order
from ebmctl.errors import EbmctlError


class _Steps(Sampler[list[int]]):
    def __init__(self, order: Order, start: int) -> None:
        self.order, self.start = order, start

    def __iter__(self) -> Iterator[list[int]]:
        step = self.start
        while True:
            yield self.order.batch(step)
            step += 1


def batches(dataset: ImageDataset, order: Order, start_step: int, workers: int = 0) -> Iterator[ImageBatch]:
    """The batches of all steps from `start_step` on, in their order whatever the number of workers."""
    steps = _Steps(order, start_step)
    if workers == 0:
        for indices in steps:
            yield dataset.__getitems__(indices)
    source: Any = _Guarded(dataset)  # torch fetches by __getitems__ where there is one, and its types do not know that
    for batch in DataLoader(source, batch_sampler=steps, num_workers=workers, collate_fn=_same, prefetch_factor=4):
        if isinstance(batch, EbmctlError):
            raise batch
        yield batch


class _Guarded:
    """Hands errors over as values: raised in a worker process, they would arrive as a page of its traceback."""

    def __init__(self, dataset: ImageDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, indices: list[int]) -> ImageBatch | EbmctlError:
        try:
            return self.dataset.__getitems__(indices)
        except EbmctlError as error:
            return error


def _same(batch: Any) -> Any:
    return batch
