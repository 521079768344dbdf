"""One measurement in a process of its own: `python -m bench.gpu.measure PART VARIANT` prints a line of JSON.

So a variant's memory is its own, and one that fails takes nothing else with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from bench.gpu import check, device
from bench.gpu.parts import PARTS, SMALL, VARIANTS, Sizes, said
from bench.gpu.table import BASE
from bench.timing import medians
from ebmctl.models.form import prepare

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part")
    parser.add_argument("variant", nargs="?", default=BASE)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--build-only", action="store_true", help="compile, for Inductor's cache, and time that")
    parser.add_argument("--count", action="store_true", help="count the operations of a call")
    parser.add_argument("--seconds", type=float, default=10, help="of timing")
    parser.add_argument("--batch", type=int, default=128, help="images of a Langevin step")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    arguments = parser.parse_args()
    where = device.found_device()  # a GPU has full sizes unless asked otherwise
    sizes = SMALL if arguments.small else Sizes(batch=arguments.batch)
    sizes = dataclasses.replace(sizes, settings=(*sizes.settings, *arguments.set))
    print(json.dumps(measured(arguments, sizes, where)), flush=True)


def measured(arguments: argparse.Namespace, sizes: Sizes, where: torch.device) -> dict[str, Any]:
    part, variant = arguments.part, arguments.variant
    if part == "rates":
        return {"device": device.name_of(where), "torch": torch.__version__, **device.rates(where)}
    form = VARIANTS[variant]
    prepare(form)
    if part in check.CHECKS:
        return check.checked(part, form, sizes, where)
    memory, began = device.Memory(), time.perf_counter()
    job = PARTS[part](form, sizes, where)
    for _ in range(2):
        job.call()
    device.wait()
    found: dict[str, Any] = {"first_seconds": time.perf_counter() - began, "images": job.images}
    if problems := [line for line in said if "not compiled" in line]:
        found["not_compiled"] = problems
    if arguments.build_only:
        return found
    found |= {"peak": memory.peak(), "reserved": memory.reserved()}
    return found | timed(arguments, sizes, where, job.call)


def timed(
    arguments: argparse.Namespace, sizes: Sizes, where: torch.device, call: Callable[[], object]
) -> dict[str, Any]:
    """Seconds of a call turn by turn with the base, and for how much of them a GPU is busy."""
    calls = [in_form(arguments.variant, call)]
    if arguments.variant != BASE:
        prepare(VARIANTS[BASE])
        calls.append(in_form(BASE, PARTS[arguments.part](VARIANTS[BASE], sizes, where).call))
    own, base = calls[0], calls[-1]
    base()
    own()
    times = medians(*calls, wait=device.wait, seconds=arguments.seconds)
    found: dict[str, Any] = {"seconds": times[0], "base_seconds": times[-1]}
    if where.type == "cuda" and (busy := tried(lambda: device.busy_seconds(own, 1 if times[0] > 0.3 else 3))):
        found["busy"] = min(1.0, busy / times[0])
    if arguments.count and (counted := tried(lambda: device.counted(base))):
        found["flops"], found["bytes"] = counted
    return found


def in_form(variant: str, call: Callable[[], object]) -> Callable[[], None]:
    """A call with the process set for its precision: another one may have set it otherwise."""

    def prepared() -> None:
        prepare(VARIANTS[variant])
        call()

    return prepared


def tried(function: Callable[[], T]) -> T | None:
    """What a function returns; where it fails, said in a line, None: the times that are known are not to be lost."""
    try:
        return function()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return None


if __name__ == "__main__":
    main()
