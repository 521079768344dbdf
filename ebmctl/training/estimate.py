"""What a run needs: parameters, memory and time, from a few measured steps on random images."""

from __future__ import annotations

import gc
import math
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ebmctl.config.schema import Recipe
from ebmctl.models.form import Form, Work, choose
from ebmctl.training.measure import Meter
from ebmctl.training.parallel import highest

FEW_STEPS = 100  # a run of so few steps on a CPU is over before anything is gained
FEW_IMAGES = 8  # of a batch, whose step shows whether the run is long
LONG = 20.0  # seconds of a step that is not measured again
SURE = 3600.0  # seconds of a run that is long, however much longer it is
BUDGET, ROUGH_BUDGET = 20.0, 1.0  # seconds to measure the longer chains of a phase in


@dataclass(frozen=True)
class Estimate:
    """What a run in some form needs: bytes, seconds of a step on average over the phases, seconds before the first.

    `memory_peak` is a GPU's memory, elsewhere the process's; `busy` is the share of the time in which a GPU has
    something to do, or None.
    """

    parameters: int
    memory_state: int
    memory_peak: int
    seconds_per_step: float
    seconds_to_compile: float = 0.0
    busy: float | None = None


def estimate(recipe: Recipe, accelerator: Accelerator, form: Form, say: Callable[[str], None]) -> Estimate:
    """What a run in a form needs; `say` is told what is compiled.

    Each phase is measured with its own objective, with shorter chains than the recipe's K where those would take
    long: a step's time is linear in K. Reading and decoding of files is not in the estimate: the images are random.
    """
    device = accelerator.device
    _free(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with _own_randomness(device):
        meter = Meter(recipe, accelerator, form, say)
        seconds, to_compile, busy = 0.0, 0.0, list[float | None]()
        for index, phase in enumerate(recipe.schedule):
            meter.enter(index)
            few = min(meter.chain_steps, 2)
            first = meter.seconds(few)
            late = meter.trainer.late
            step = _step(meter, few, min(meter.seconds(few, late) for _ in range(2)), BUDGET, 2, late)
            seconds += phase.share * step
            if form.execution != "eager":
                to_compile += max(first - meter.seconds(few), 0.0)
            if device.type == "cuda":
                share = meter.busy(min(meter.chain_steps, 10))
                busy.append(None if share is None else share * phase.share * step)
    parameters = sum(p.numel() for p in meter.trainer.network.parameters())
    return Estimate(
        parameters,
        # weights, gradient, two moments, EMA; the buffers are uint8, all of them are allocated from the start
        4 * parameters * 5 + sum(buffer.images.numel() for buffer in meter.buffers),
        _peak(device),
        seconds,
        to_compile,
        None if not busy or None in busy else sum(part or 0.0 for part in busy) / seconds,
    )


def eager_seconds(recipe: Recipe, accelerator: Accelerator, precision: str = "auto") -> float | None:
    """How long a run would take in eager mode, roughly and soon known; None where a step fails.

    0 of a run that is short; at least `SURE` of one that is long. All of several processes are told the same.
    """
    device = accelerator.device
    if is_short(recipe, device):
        return 0.0
    try:
        with _own_randomness(device):
            seconds = _roughly(Meter(recipe, Alone(device), choose(device, precision, "off", Work())))
    except Exception:  # any: the run itself fails in the same way, with a message of its own
        seconds = math.inf
    _free(device)
    agreed = highest(accelerator, seconds)
    return agreed if math.isfinite(agreed) else None


def is_short(recipe: Recipe, device: torch.device) -> bool:
    """Whether a run is too short to measure anything before it."""
    return device.type == "cpu" and recipe.run.steps <= FEW_STEPS


class Alone:
    """The accelerator of a process that waits for no other: in measuring they may take different numbers of steps."""

    num_processes, process_index, is_main_process = 1, 0, True

    def __init__(self, device: torch.device) -> None:
        self.device = device


def _roughly(meter: Meter) -> float:
    """Seconds of all steps; where a step takes long, or the run surely does, only as much as is known by then."""
    total, left = 0.0, float(meter.recipe.run.steps)
    for index, phase in enumerate(meter.recipe.schedule):
        steps = phase.share * meter.recipe.run.steps
        for images in (FEW_IMAGES, None):  # a few take less time than a whole batch
            meter.enter(index, images)
            few = min(meter.chain_steps, 1)
            for warm in (False, True):
                short = meter.seconds(few)
                if short > LONG and (warm or meter.device.type == "cpu"):  # a GPU's libraries take long to load
                    return total + left * short
            if total + steps * short >= SURE:
                return total + steps * short
        total, left = total + steps * _step(meter, few, short, ROUGH_BUDGET), left - steps
        if total >= SURE:
            break
    return total


def _step(meter: Meter, few: int, short: float, budget: float, rounds: int = 1, count: int = 1) -> float:
    """Seconds of a step whose chains have all of their steps, where with few of them it takes `short`.

    Longer chains are measured, `rounds` times `count` steps: as long as are done within a budget of seconds. A step
    whose chains are n times as long takes at most n times as long.
    """
    steps = meter.chain_steps
    if steps == few:
        return short
    within = few * budget / (rounds * count * max(short, 1e-9))
    longer = int(min(steps, max(few + 2, within)))
    more = min(meter.seconds(longer, count) for _ in range(rounds)) - short
    return short + (steps - few) * max(more, 0.0) / (longer - few)


def _own_randomness(device: torch.device) -> AbstractContextManager[None]:
    """Torch's own random numbers go on as if nothing had been drawn."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _free(device: torch.device) -> None:
    """Give back a GPU's memory that is not in use: graphs of CUDA can't take over what was allocated without them."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # kibibytes but on macOS
