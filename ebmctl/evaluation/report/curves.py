"""Curves of a run's metrics, as coordinates in a small drawing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebmctl.config.schema import EVAL_DISTANCE, EVAL_SCORE

WIDTH, HEIGHT = 360, 190  # of a drawing, in its own units: near to a phone's width, so that text stays readable there
LEFT, RIGHT, TOP, BOTTOM = 54, 334, 8, 166  # where the curves are
POINTS = 150  # of a curve at most; more are averaged
LOGARITHMIC = 30.0  # largest over smallest, of what is never 0 or less
UNDRAWN = {"step", "phase", "seconds", "lr", "buffer", "loss_cd"}  # the last is the energy difference
SCORES = {  # of the averaged weights, now and then
    EVAL_DISTANCE: "Fréchet distance from held-out images, by the run's extractor",
    EVAL_SCORE: "Inception score, by the run's extractor",
}

Curve = list[tuple[float, float]]  # steps and values


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A curve with its name; `points` as SVG takes them."""

    name: str
    points: str


@dataclass(frozen=True)
class Chart:
    """Curves over training steps, in a drawing of WIDTH x HEIGHT."""

    title: str
    lines: Sequence[Line]
    across: Sequence[Tick]
    up: Sequence[Tick]
    about: str


def charts(metrics: Iterable[Mapping[str, Any]]) -> list[Chart]:
    """Charts of all there is in the lines of a metrics.jsonl; what has fewer than two finite values is left out."""
    known: dict[str, Curve] = {}
    for line in metrics:
        if not isinstance(line, Mapping) or "event" in line or not _number(line.get("step")):
            continue
        for key, value in line.items():
            if key not in UNDRAWN and _number(value):
                known.setdefault(key, []).append((float(line["step"]), float(value)))
    made = (_chart(title, curves) for title, curves in _grouped(known))
    return [chart for chart in made if chart]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _grouped(known: Mapping[str, Curve]) -> Iterable[tuple[str, Mapping[str, Curve]]]:
    """What belongs into one chart: first what tells most."""
    for key, title in SCORES.items():
        if key in known:
            yield title, {key: known[key]}
    if "energy_difference" in known:
        yield "energy difference, E(data) - E(samples)", {"energy_difference": known["energy_difference"]}
    energies = {key: known[key] for key in known if key.startswith("energy_") and key != "energy_difference"}
    if energies:
        yield "mean energy", {key.removeprefix("energy_"): curve for key, curve in energies.items()}
    gradients = {key: known[key] for key in sorted(known) if key.startswith("gradient")}  # that of all comes first
    drawn = {"energy_difference", *SCORES, *energies, *gradients}
    for key in known:
        if key not in drawn:
            yield key.replace("_", " "), {key: known[key]}
    if gradients:
        names = {key: key.removeprefix("gradient_") if "_" in key else "all" for key in gradients}
        yield "norm of the gradient", {names[key]: curve for key, curve in gradients.items()}


def _chart(title: str, curves: Mapping[str, Curve]) -> Chart | None:
    curves = {name: sorted(curve) for name, curve in curves.items() if len({step for step, _ in curve}) > 1}
    if not curves:
        return None
    first = min(curve[0][0] for curve in curves.values())
    last = max(curve[-1][0] for curve in curves.values())
    curves = {name: averaged(curve, first, last) for name, curve in curves.items()}
    ends = ", ".join(f"{name} ends at {curve[-1][1]:.4g}" for name, curve in curves.items())
    values = [value for curve in curves.values() for _, value in curve]
    low, high = min(values), max(values)
    logarithmic = low > 0 and high / low > LOGARITHMIC
    if logarithmic:
        curves = {name: [(step, math.log10(value)) for step, value in curve] for name, curve in curves.items()}
        low, high = math.log10(low), math.log10(high)
    if not math.isfinite(high - low):
        return None
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - (abs(low) or 1), high + (abs(high) or 1)

    def x(step: float) -> float:
        return round(LEFT + (step - first) / (last - first) * (RIGHT - LEFT), 1)

    def y(value: float) -> float:
        return round(BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP), 1)

    return Chart(
        title + (" (logarithmic)" if logarithmic else ""),
        [Line(name, " ".join(f"{x(step)},{y(value)}" for step, value in curve)) for name, curve in curves.items()],
        [Tick(x(step), f"{step:,.0f}") for step in round_numbers(first, last, 4)],
        [Tick(y(v), f"{10**v if logarithmic else v:.4g}") for v in _heights(low, high, logarithmic)],
        f"{title} from step {first:,.0f} to {last:,.0f}: {ends}",
    )


def averaged(curve: Curve, first: float, last: float) -> Curve:
    """A curve, its steps in order: one point in each POINTS-th part of first to last, the mean of those there."""
    parts = itertools.groupby(curve, lambda point: min(int((point[0] - first) / (last - first) * POINTS), POINTS - 1))
    means = []
    for _, part in parts:
        points = list(part)
        means.append((sum(p[0] / len(points) for p in points), sum(p[1] / len(points) for p in points)))
    return means


def round_numbers(low: float, high: float, about: int) -> list[float]:
    """About that many round numbers (1, 2 or 5 times a power of ten apart) from low to high."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    apart = min((power * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(size - rough))
    return [k * apart for k in range(math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9) + 1)]


def _heights(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic and high - low > 1:
        every = max(round((high - low) / 4), 1)
        return [float(power) for power in range(math.ceil(low), math.floor(high) + 1, every)]
    return round_numbers(low, high, 4)
