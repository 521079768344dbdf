"""What compiling brings on this CPU: steps of the small recipes, and a Langevin step of the CIFAR-10 network.

`python -m bench fast`: minutes. Ratios within one run, eager mode and compiled code turn by turn; "first s" is until
two calls are done where nothing was compiled before, "cached s" the same from Inductor's cache. Lines of JSON go to
out/bench-fast.jsonl, which `python -m bench.gpu.gains` reads.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from bench.gpu import table
from bench.gpu.speed import Run

PARTS = ("digits, phase 1", "digits, phase 2", "digits-icd", "langevin")
OUT = Path("out/bench-fast.jsonl")


def main() -> None:
    with tempfile.TemporaryDirectory() as cache:
        run = Run(OUT, float("inf"), ["--seconds=20", "--batch=8"], Path(cache))
        run.rates()
        print(table.HEAD, flush=True)
        for part in PARTS:
            run.compile([(part, "compiled fp32")])
            run.one(part, "compiled fp32")
