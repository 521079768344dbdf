"""What is read off the device: its rates, how busy it is, its memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from bench.timing import medians
from ebmctl.models.form import Form, Precision, prepare

BUSY = ("kernel", "gpu_memcpy", "gpu_memset")


def found_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def rates(device: torch.device) -> dict[str, float]:
    """FLOP/s of a large matrix product in each precision, and bytes/s of a large copy, those read and those written."""
    size = 8192 if device.type == "cuda" else 512
    a, b = torch.randn(2, size, size, device=device)
    target = torch.empty_like(a) if device.type == "cpu" else torch.empty(2**30, device=device)
    source = torch.randn_like(target)
    found: dict[str, float] = {}
    precisions: tuple[Precision, ...] = ("fp32", "tf32", "bf16")
    for precision in precisions:
        prepare(Form(precision))
        x, y = (a.bfloat16(), b.bfloat16()) if precision == "bf16" else (a, b)
        found[precision] = 2 * size**3 / once(lambda x=x, y=y: x @ y)  # type: ignore[misc]
    found["copy"] = 2 * target.numel() * 4 / once(lambda: target.copy_(source))
    return found


def once(function: Callable[[], object]) -> float:
    for _ in range(3):
        function()
    return medians(function, wait=wait, seconds=1)[0]


class Counting(TorchDispatchMode):  # not FlopCounterMode: it fails in `autograd.grad`
    """Operations of convolutions and matrix products, and bytes that go into them and come out.

    These bytes have to be moved even where all else is fused into them.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
            tensors = [t for t in tree_leaves((args, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in tensors)
        return out


def counted(call: Callable[[], object]) -> tuple[int, int]:
    """Floating-point operations of a call in eager mode, and bytes, as by `Counting`."""
    with Counting() as seen:
        call()
    return seen.flops, seen.bytes


def busy_seconds(call: Callable[[], object], calls: int) -> float:
    """For how long the GPU works in a call, whatever the processor does meanwhile."""
    from torch.profiler import ProfilerActivity, profile

    wait()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(calls):
            call()
        wait()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    spans = [(e["ts"], e["ts"] + e["dur"]) for e in events if e.get("cat") in BUSY]
    return merged(spans) / 1e6 / calls


def merged(spans: Iterable[tuple[float, float]]) -> float:
    """How much of a line intervals cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


class Memory:
    """The peak of a GPU's memory since this was made, above what was held then; 0 on a CPU."""

    def __init__(self) -> None:
        self.before = 0
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated() - self.before if torch.cuda.is_available() else 0

    def reserved(self) -> int:
        return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else 0
