"""The form in which a network runs: its precision, and how it is made fast. What is best is chosen by rule."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from ebmctl.core.fast import Lower, as_it_is, inductor

Precision = Literal["fp32", "tf32", "bf16"]
Execution = Literal["eager", "captured", "compiled"]


@dataclass(frozen=True)
class Gain:
    """What an execution brings: how much faster than eager it is, after some seconds of preparation."""

    factor: float
    seconds: float


ALWAYS_EAGER: dict[Execution, Gain] = {"eager": Gain(1, 0)}
GAINS: dict[str, dict[Execution, Gain]] = {
    "cpu": {"eager": Gain(1, 0), "compiled": Gain(1.25, 300)},
    "cuda": {"eager": Gain(1, 0), "captured": Gain(2, 30), "compiled": Gain(4, 180)},
}
"""As measured: bench/fast.py on 2 cores of a CPU, bench/gpu on an H200; other devices stay eager."""


@dataclass(frozen=True)
class Form:
    """How a network runs: results are the same up to the rounding of the precision.

    "captured" is CUDA graphs of the network's own operations, "compiled" has them fused by Inductor before.
    """

    precision: Precision = "fp32"
    execution: Execution = "eager"

    @property
    def lower(self) -> Lower | None:
        """What makes its graphs fast; None in eager mode."""
        return {"eager": None, "captured": as_it_is, "compiled": inductor}[self.execution]

    def __str__(self) -> str:
        return f"{self.precision}, {self.execution}"

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Form:
        """The form of plain values; raises ValueError or KeyError for others than `to_mapping` gives."""
        precision = next((name for name in get_args(Precision) if name == values["precision"]), None)
        execution = next((name for name in get_args(Execution) if name == values["execution"]), None)
        if precision is None or execution is None:
            raise ValueError(f"no form: {values}")
        return cls(precision, execution)

    def to_mapping(self) -> dict[str, str]:
        """Plain values, as a checkpoint holds them."""
        return {"precision": self.precision, "execution": self.execution}


EAGER = Form()


@dataclass(frozen=True)
class Work:
    """How much there is to do: seconds that it takes in eager mode, or that it may take, if either is known."""

    seconds: float | None = None
    limit: float | None = None

    def best(self, gains: dict[Execution, Gain]) -> Execution:
        """The execution that is done first, or that does most within the limit; of a long work the fastest one."""

        def merit(name: Execution) -> float:
            gain = gains[name]
            if self.limit is not None:
                return (self.limit - gain.seconds) * gain.factor
            return gain.factor if self.seconds is None else -(gain.seconds + self.seconds / gain.factor)

        return max(gains, key=merit)


def choose(device: torch.device, precision: str, compile: str, work: Work, last: Form | None = None) -> Form:
    """The form for a device: as asked for, or where that is "auto" the best one.

    `precision` is auto, fp32, tf32 or bf16; `compile` is auto, on or off. Where work goes on that was done in the form
    `last`, "auto" is that one, if this device has it.
    """
    number = {name: name for name in get_args(Precision)}.get(precision)
    chosen: Precision = number or (last.precision if last else _best_precision(device))
    gains = dict(GAINS.get(device.type, ALWAYS_EAGER))
    if compile == "on" and "compiled" in gains:
        return Form(chosen, "compiled")
    if compile == "off":
        return Form(chosen)
    if missing(device):
        gains.pop("compiled", None)
    return Form(chosen, last.execution if last and last.execution in gains else work.best(gains))


def _best_precision(device: torch.device) -> Precision:
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"


def told(form: Form, device: torch.device) -> str:
    """A form as a user is told of it, with how long it takes to prepare."""
    seconds = GAINS.get(device.type, ALWAYS_EAGER).get(form.execution, Gain(1, 0)).seconds
    if not seconds:
        return str(form)
    return (
        f"{form} (ready in about {seconds:g} s)" if seconds < 60 else f"{form} (ready in about {seconds / 60:.0f} min)"
    )


def missing(device: torch.device) -> str:
    """What is missing on this machine to compile for a device, in a few words; empty if nothing is."""
    if device.type == "cpu":
        compilers = [os.environ.get("CXX", ""), "g++", "clang++", "cl"]
        return "" if any(name and shutil.which(name) for name in compilers) else "no C++ compiler"
    return "" if importlib.util.find_spec("triton") else "no Triton"


def prepare(form: Form) -> None:
    """Set what is the process's own: TF32 for float32 products on a GPU, and where compiled code is kept."""
    allowed = form.precision != "fp32"
    torch.backends.cuda.matmul.allow_tf32 = allowed  # torch.set_float32_matmul_precision would change the CPU's too
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cudnn.deterministic = True  # so that a resumed run goes on exactly
    with contextlib.suppress(RuntimeError):  # who has no home has Inductor's own folder, a temporary one
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(home / "ebmctl" / "compiled"))
