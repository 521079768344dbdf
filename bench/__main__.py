"""`python -m bench [NAME]...`: all benchmarks, or those named.

`python -m bench gpu [PART]...` is the speed table of a GPU, and `python -m bench fast` what compiling brings on a CPU:
these take minutes, so that they are no part of all.
"""

from __future__ import annotations

import importlib
import sys

NAMES = ("langevin", "step", "matching", "augment", "memory", "checkpoint", "shards", "ood", "compose", "startup")

if sys.argv[1:2] == ["gpu"]:
    from bench.gpu import speed

    sys.exit(speed.main(sys.argv[2:]))

for name in sys.argv[1:] or NAMES:
    print(f"== {name}", flush=True)
    importlib.import_module(f"bench.{name}").main()
