"""Two runs that differ in their precision alone: `python -m bench.gpu.precision TF32.jsonl BF16.jsonl`.

Compares what their `metrics.jsonl` say, stretch by stretch of equal steps. Needs no GPU.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

NAMES = (
    *("energy_data", "energy_samples", "energy_difference", "loss_kl", "loss_entropy"),
    *("gradient", "gradient_cd", "gradient_kl", "seconds"),
)
STRETCHES = 6
Steps = Sequence[dict[str, Any]]


def steps(path: Path) -> list[dict[str, Any]]:
    """The metrics of a run's steps, without its events."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [values for values in found if "event" not in values and "gradient" in values]


def compared(first: Steps, second: Steps) -> Iterator[tuple[str, int, float, float, float]]:
    """A metric, a stretch's last step, its means in both runs, and how many deviations of the first lie between."""
    count = min(len(first), len(second))
    for name in NAMES:
        for index in range(STRETCHES):
            rows = range(index * count // STRETCHES, (index + 1) * count // STRETCHES)
            a, b = ([run[row][name] for row in rows if run[row].get(name) is not None] for run in (first, second))
            if len(a) > 1 and len(b) > 1:
                spread = statistics.stdev(a)
                apart = abs(statistics.fmean(b) - statistics.fmean(a)) / spread if spread else 0.0
                yield name, first[rows[-1]]["step"], statistics.fmean(a), statistics.fmean(b), apart


def main(paths: Sequence[str]) -> None:
    first, second = (steps(Path(path)) for path in paths)
    print(
        f"{len(first)} and {len(second)} steps\n{'metric':20} {'to step':>8} {'first':>12} {'second':>12} {'apart':>7}"
    )
    for name, step, a, b, apart in compared(first, second):
        print(f"{name:20} {step:8} {a:12.5g} {b:12.5g} {apart:7.2f}")
    print("apart: the difference of the means over the standard deviation of the first run's steps")


if __name__ == "__main__":
    main(sys.argv[1:])
