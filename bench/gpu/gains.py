"""What `GAINS` in `ebmctl/models/form.py` should say: `python -m bench.gpu.gains SPEED.jsonl...` reads the speed table.

The factor is the geometric mean over the parts, against eager mode in the same precision; the seconds are those of the
part that takes longest to prepare where nothing is compiled yet. Needs no GPU.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from bench.gpu.table import Record, ratio

PRECISIONS = ("fp32", "tf32", "bf16")
LEFT_OUT = ("sample", "score", "score-gradient", "matching-unet")  # other batches of the same network; no recipe's


def records(paths: Iterable[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def gains(found: Iterable[Record]) -> Iterator[tuple[str, float, float]]:
    """An execution with its precision, the factor, and the seconds."""
    found = [r for r in found if r["part"] not in LEFT_OUT]
    timed = {(r["part"], r["variant"]): ratio(r) for r in found if "seconds" in r}
    first: dict[str, float] = {}
    for record in found:  # what was compiled before is the faster of two
        if "first_seconds" in record:
            first[record["variant"]] = max(first.get(record["variant"], 0.0), record["first_seconds"])
    for execution in ("captured", "compiled"):
        for precision in PRECISIONS:
            own = f"{execution} {precision}"
            parts = [part for part, variant in timed if variant == own]
            factors = [timed[part, own] / timed.get((part, f"eager {precision}"), 1.0) for part in parts]
            if factors:
                yield own, math.exp(sum(map(math.log, factors)) / len(factors)), first[own]


def main(paths: list[str]) -> None:
    for name, factor, seconds in gains(records(map(Path, paths))):
        print(f"{name:14} Gain({factor:.2g}, {seconds:.0f})")
    print("the constants are those of tf32 on a GPU, of fp32 on a CPU; bf16 is against eager fp32")


if __name__ == "__main__":
    main(sys.argv[1:])
