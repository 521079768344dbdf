"""Timing shared by the benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable


def best(*functions: Callable[[], object], rounds: int = 5) -> list[float]:
    """The shortest time of each function in seconds, taken turn by turn so that a slow spell hits all of them."""
    for function in functions:
        function()
    times = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            began = time.perf_counter()
            function()
            times[index] = min(times[index], time.perf_counter() - began)
    return times
