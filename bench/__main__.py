"""`python -m bench [NAME]...`: all benchmarks, or those named."""

from __future__ import annotations

import importlib
import sys

import torch

NAMES = ("langevin", "step", "augment", "memory", "startup")

torch.set_num_threads(torch.get_num_threads())
for name in sys.argv[1:] or NAMES:
    print(f"== {name}", flush=True)
    importlib.import_module(f"bench.{name}").main()
