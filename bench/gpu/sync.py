"""Whether a training step of the recipes waits for the GPU: CUDA raises where it does. `python -m bench.gpu.sync`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import torch

from bench.gpu.device import found_device
from bench.gpu.parts import SMALL, VARIANTS, Job, Sizes, icd, matching

STEPS = {"icd": icd, "energy-matching": matching}
TRIED = ("eager tf32", "captured tf32", "compiled bf16")


def results(variants: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Each step in each form, and the error where it waits."""
    device = found_device()
    jobs: list[Job] = []  # kept: graphs of CUDA can't enter a pool whose other graphs are all gone
    sizes = Sizes() if device.type == "cuda" else SMALL
    for name, part in STEPS.items():
        for variant in variants:
            jobs.append(part(VARIANTS[variant], sizes, device))
            for _ in range(2):  # what is made once may wait
                jobs[-1].call()
            yield f"{name}, {variant}", waits(jobs[-1].call)


def waits(call: Callable[[], object]) -> str | None:
    """The error of a call that waits for the GPU; without one it is only called."""
    if not torch.cuda.is_available():
        call()
        return None
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def main(variants: tuple[str, ...]) -> int:
    failed = 0
    good = "waits for nothing" if torch.cuda.is_available() else "runs; without a GPU nothing more is seen"
    for name, error in results(variants or TRIED):
        print(f"{name:32} {error or good}", flush=True)
        failed += error is not None
    return failed


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
