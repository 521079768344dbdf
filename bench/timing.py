"""Timing shared by the benchmarks."""

from __future__ import annotations

import math
import statistics
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


def medians(
    *functions: Callable[[], object], wait: Callable[[], object], seconds: float, short: float = 0.1
) -> list[float]:
    """The median time of each function in seconds, taken turn by turn for about so many seconds, three turns at least.

    They only enqueue their work, and `wait` waits for it. So many calls go between two waits as take `short` seconds:
    the waiting itself hardly counts. Warm them up before.
    """

    def timed(function: Callable[[], object], calls: int) -> float:
        wait()
        began = time.perf_counter()
        for _ in range(calls):
            function()
        wait()
        return (time.perf_counter() - began) / calls

    calls = [max(1, math.ceil(short / timed(function, 1))) for function in functions]
    times: list[list[float]] = [[] for _ in functions]
    began = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - began < seconds:
        for index, function in enumerate(functions):
            times[index].append(timed(function, calls[index]))
    return [statistics.median(found) for found in times]
