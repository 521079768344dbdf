"""The replay buffer: past samples from which the next chains start (Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ebmctl.core.config import Policy


def quantize(images: Tensor) -> Tensor:
    """Images in [0, 1] as uint8, rounded; values outside are clamped, never wrapped around."""
    return (images.detach() * 255).round_().clamp_(0, 255).to(torch.uint8)


class ReplayBuffer:
    """Up to `capacity` images (C, H, W) as one uint8 tensor.

    "reservoir" keeps a uniform sample of all images that were ever added (Vitter's algorithm R); "fifo" the latest.
    """

    def __init__(self, capacity: int, shape: tuple[int, int, int], policy: Policy, device: torch.device) -> None:
        self._rows = torch.zeros(capacity + 1, *shape, dtype=torch.uint8, device=device)
        self.images = self._rows[:capacity]  # the last row takes what the reservoir turns away
        self.policy = policy
        self.newest = self.images[:0]
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, len(self.images))

    def add(self, images: Tensor, generator: torch.Generator) -> None:
        """Add images (B, C, H, W) in [0, 1]."""
        capacity = len(self.images)
        arrival = torch.arange(self.seen, self.seen + len(images), device=images.device)
        if self.policy == "fifo":
            slot = arrival % capacity
        else:
            uniform = torch.rand(len(images), generator=generator, device=images.device, dtype=torch.float64)
            slot = torch.where(arrival < capacity, arrival, (uniform * (arrival + 1)).long())
            slot = slot.clamp_max(capacity)
        self.newest = quantize(images)
        self._rows[slot] = self.newest[last_of_each(slot, capacity + 1)]
        self.seen += len(images)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` images in [0, 1], uniformly and with replacement. The buffer must not be empty."""
        index = torch.randint(len(self), (count,), generator=generator, device=self.images.device)
        return self.images[index].float().div_(255)

    def state_dict(self) -> dict[str, Tensor]:
        """The filled part of the buffer, and how many images it has seen."""
        return {"images": self.images[: len(self)], "seen": torch.tensor(self.seen)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load a state; raises ValueError if it does not fit this buffer."""
        images, seen = state["images"], int(state["seen"])
        if images.shape[1:] != self.images.shape[1:] or len(images) != min(seen, len(self.images)):
            raise ValueError(f"a buffer of shape {tuple(images.shape)} does not fit {tuple(self.images.shape)}")
        self.images[: len(images)] = images
        self.seen = seen


def last_of_each(slot: Tensor, slots: int) -> Tensor:
    """For each entry of `slot` (B,), below `slots`, the index (B,) of the last entry of the same slot.

    Writing a slot twice in one indexed assignment has no defined order: so each entry writes what the last does. (To
    pick the last ones would make a shape that depends on values, for which the host has to wait.)
    """
    position = torch.arange(len(slot), device=slot.device)
    last = torch.zeros(slots, dtype=torch.long, device=slot.device).scatter_reduce_(0, slot, position, "amax")
    return last[slot]
