"""The divergence guard: it detects when a run has left the region where its energies are meaningful."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ebmctl.config.schema import GuardConfig


class Guard:
    """Watches the metrics and the newest negative samples of each step."""

    def __init__(self, config: GuardConfig, past: Sequence[Mapping[str, Any]]) -> None:
        self.config = config
        self.differences: deque[float] = deque(maxlen=config.window)
        self.differences.extend(line["energy_difference"] for line in past if "energy_difference" in line)

    def problem(self, values: Mapping[str, Any], samples: Tensor | None) -> str | None:
        """What is wrong after a step, in a few words; None while all is well. `samples` are (N, C, H, W)."""
        config = self.config
        if "energy_difference" in values:
            self.differences.append(values["energy_difference"])
        mean = sum(self.differences) / max(len(self.differences), 1)
        if config.difference and abs(mean) > config.difference:
            return f"the energy difference is running away ({mean:+.3g} on average over {len(self.differences)} steps)"
        if samples is not None and len(samples) > 1:
            if config.spread and (found := standard_deviation(samples)) < config.spread:
                return f"the negative samples have collapsed (standard deviation {found:.2g})"
            if config.distance and (found := nearest_distance(samples)) < config.distance:
                return f"the negative samples have collapsed (distance to the nearest {found:.2g})"
        return None


def standard_deviation(samples: Tensor) -> float:
    """The standard deviation of samples (N, C, H, W) from one another, averaged over the pixels."""
    return float(samples.std(0).mean())


def nearest_distance(samples: Tensor) -> float:
    """The mean distance of a sample to the nearest other, per root of the number of values: 1 for black and white."""
    flat = samples.flatten(1)
    distance = torch.cdist(flat, flat).fill_diagonal_(torch.inf).amin(1).mean()
    return float(distance / flat.shape[1] ** 0.5)
