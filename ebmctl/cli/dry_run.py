"""`ebmctl train --dry-run`: the recipe of a run, and an estimate of its time and memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import tomli_w
import torch
from accelerate import Accelerator

from ebmctl.cli import console
from ebmctl.config.schema import Recipe
from ebmctl.models.device import described
from ebmctl.models.form import GAINS, Form, Work, choose, missing, prepare
from ebmctl.training.estimate import Estimate, estimate, is_short
from ebmctl.training.parallel import highest, make_accelerator


@dataclass(frozen=True)
class Outlook:
    """What a run is going to be: its form and why, what it needs in eager mode, and what it needs in its form.

    The latter is `measured`, or what the form usually brings.
    """

    form: Form
    why: str
    eager: Estimate
    own: Estimate
    measured: bool = True

    def seconds(self, steps: int) -> float:
        """How long so many steps take, and compiling before them."""
        return self.own.seconds_to_compile + steps * self.own.seconds_per_step


def dry_run(recipe: Recipe, device: str, precision: str, compile: str, limit: float | None, as_json: bool) -> None:
    """Print the resolved recipe, and an estimate from a few measured steps in the form that the run would have."""
    accelerator = make_accelerator(device)
    shown = accelerator.is_main_process
    if shown and not as_json:
        print(tomli_w.dumps(recipe.to_mapping()))
    memory = device_memory(accelerator.device)  # before anything is on it
    outlook = look(recipe, accelerator, precision, compile, limit, console.say if shown else lambda _: None)
    if shown:
        result = document if as_json else readable
        console.show(result(recipe, outlook, accelerator.device, memory), as_json)


def look(
    recipe: Recipe,
    accelerator: Accelerator,
    precision: str,
    compile: str,
    limit: float | None,
    say: Callable[[str], None] = console.say,
) -> Outlook:
    """Measure eager mode, choose the form as the run does, and measure that too where this is worth its compiling."""
    device = accelerator.device
    say("measuring a few steps on random images ...")
    plain = choose(device, precision, "off", Work())
    prepare(plain)
    eager = estimate(recipe, accelerator, plain, say)
    seconds = 0.0 if is_short(recipe, device) else eager.seconds_per_step * recipe.run.steps
    work = Work(limit=limit) if limit else Work(highest(accelerator, seconds))  # the same in all processes
    form = choose(device, precision, compile, work)
    why = reason(form, device, compile, work)
    if form.execution == "eager":
        return Outlook(form, why, eager, eager)
    if device.type != "cuda" and compile != "on":
        gain = GAINS[device.type][form.execution]
        step = eager.seconds_per_step / gain.factor
        expected = replace(eager, seconds_per_step=step, seconds_to_compile=gain.seconds)
        return Outlook(form, why, eager, expected, measured=False)
    say(f"measuring {form} too, once that is made ...")
    return Outlook(form, why, eager, estimate(recipe, accelerator, form, say))


def reason(form: Form, device: torch.device, compile: str, work: Work) -> str:
    """Why a run has its form, in a line."""
    if device.type not in GAINS:
        return "networks are not compiled for this device"
    if compile != "auto":
        return f"--compile {compile}"
    gains, lacking = GAINS[device.type], missing(device)
    if lacking and set(gains) == {"eager", "compiled"}:
        return f"{lacking} to compile with"
    length = f"--time {console.duration(work.limit)}" if work.limit else "a short run"
    length = f"{console.duration(work.seconds)} in eager mode" if work.seconds else length
    if form.execution == "eager":
        return f"{length}: compiling would take longer than it saves"
    gain = gains[form.execution]
    after = console.duration(gain.seconds)
    usual = f"{length}; {form.execution} it is usually {gain.factor:g} times as fast, after {after}"
    return f"{usual} ({lacking} to compile with)" if lacking else usual


def device_memory(device: torch.device) -> tuple[int, int] | None:
    """The memory of a GPU in bytes, free and in all; None of another device."""
    return torch.cuda.mem_get_info(device) if device.type == "cuda" else None


def document(recipe: Recipe, outlook: Outlook, device: torch.device, memory: tuple[int, int] | None) -> dict[str, Any]:
    """The result as JSON."""
    own, (free, total) = outlook.own, memory or (None, None)
    return {
        "recipe": recipe.to_mapping(),
        "device": described(device),
        "device_memory": total,
        "device_memory_free": free,
        "form": asdict(outlook.form),
        "why": outlook.why,
        "parameters": own.parameters,
        "memory_state": own.memory_state,
        "memory_peak": own.memory_peak,
        "measured": outlook.measured,
        "seconds_per_step": own.seconds_per_step,
        "seconds_per_step_eager": outlook.eager.seconds_per_step,
        "seconds_to_compile": own.seconds_to_compile,
        "busy": own.busy,
        "seconds": outlook.seconds(recipe.run.steps),
    }


def readable(recipe: Recipe, outlook: Outlook, device: torch.device, memory: tuple[int, int] | None) -> dict[str, Any]:
    """The result as a person reads it."""
    own, form = outlook.own, outlook.form
    of_memory = "" if memory is None else f", {memory[1] / 1e9:,.0f} GB, of which {memory[0] / 1e9:,.0f} GB are free"
    found: dict[str, Any] = {
        "device": described(device) + of_memory,
        "form": str(form),
        "why": outlook.why,
        "parameters": f"{own.parameters:,}",
        "memory for weights, optimizer and buffer": f"{own.memory_state / 1e6:,.0f} MB",
        f"peak memory of the {'process' if memory is None else 'GPU'}": f"{own.memory_peak / 1e6:,.0f} MB",
        "seconds per training step": own.seconds_per_step,
    }
    if form.execution != "eager":
        found["in eager mode"] = outlook.eager.seconds_per_step
        doing = {"captured": "capturing", "compiled": "compiling"}[form.execution]
        found[f"{doing} takes"] = console.duration(own.seconds_to_compile)
    if not outlook.measured:
        found["seconds per training step"] = f"{own.seconds_per_step:.4g} (expected; --compile on measures it)"
    if own.busy is not None:
        found["the GPU is busy"] = f"{own.busy:.0%} of the time"
    found[f"{recipe.run.steps:,} steps take"] = console.duration(outlook.seconds(recipe.run.steps))
    return found
