"""`ebmctl --help`."""

from __future__ import annotations

import subprocess
import sys

from bench.timing import best


def main() -> None:
    def call(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)

    shown, empty = best(lambda: call("-m", "ebmctl", "--help"), lambda: call("-c", "pass"), rounds=10)
    print(f"ebmctl --help            {shown:8.3f} s  (target: 0.3)")
    print(f"python -c pass           {empty:8.3f} s")
