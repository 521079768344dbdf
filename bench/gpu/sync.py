"""Whether a training step of the recipes waits for the GPU: CUDA raises where it does. `python -m bench.gpu.sync`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from bench.gpu.device import found_device
from bench.gpu.parts import SMALL, VARIANTS, Sizes, icd, matching

STEPS = {"icd": icd, "energy-matching": matching}
TRIED = ("eager tf32", "captured tf32", "compiled bf16")


def results(variants: tuple[str, ...]) -> Iterator[tuple[str, str | None]]:
    """Each step in each form, and the error where it waits."""
    device = found_device()
    sizes = Sizes() if device.type == "cuda" else SMALL
    for name, part in STEPS.items():
        for variant in variants:
            call = part(VARIANTS[variant], sizes, device).call
            for _ in range(2):  # what is made once may wait
                call()
            yield f"{name}, {variant}", waits(call) if device.type == "cuda" else None


def waits(call: object) -> str | None:
    assert callable(call)
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
    for name, error in results(variants or TRIED):
        print(f"{name:32} {error or 'waits for nothing'}", flush=True)
        failed += error is not None
    if not torch.cuda.is_available():
        print("no GPU: only that the steps run was seen")
    return failed


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
