"""Values with their 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass

Z = 1.959964  # of a normal distribution, 95 % within


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def bounds(self) -> str:
        """The interval as tables and cards have it."""
        return f"{self.low:.3f} to {self.high:.3f}"


def wilson(right: int, count: int) -> Interval:
    """The share of `right` in `count` (at least 1), with Wilson's score interval."""
    share, square = right / count, Z * Z / count
    center = (share + square / 2) / (1 + square)
    half = Z / (1 + square) * (share * (1 - share) / count + square / (4 * count)) ** 0.5
    low = center - half if right else 0.0  # rounding is kept from crossing the ends
    high = center + half if right < count else 1.0
    return Interval(share, max(low, 0.0), min(high, 1.0))
