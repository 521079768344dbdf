"""`python -m bench [NAME]...`: all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

NAMES = ("langevin", "step", "matching", "augment", "memory", "checkpoint", "shards", "ood", "compose", "startup")

for name in sys.argv[1:] or NAMES:
    print(f"== {name}", flush=True)
    importlib.import_module(f"bench.{name}").main()
