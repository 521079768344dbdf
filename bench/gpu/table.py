"""Records of measurements as lines of a table, with the targets beside them. Nothing here computes on a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Record = Mapping[str, Any]

BASE = "eager fp32"  # what all are compared with
FASTER = {"langevin": 4.5, "icd": 9.0, "matching": 4.0, "matching-unet": 3.0}  # than eager fp32
BUSY, LOWER = 0.9, 1.25  # the GPU's share in training steps; compiled bf16 over compiled tf32
TRAINED = ("icd", "matching", "matching-unet")
HEAD = (
    f"{'part':16} {'variant':14} {'ms':>9} {'x eager':>8} {'TFLOP/s':>8} {'of rate':>8} {'of copy':>8} {'busy':>5} "
    f"{'images/s':>9} {'first s':>8} {'cached s':>8} {'GB':>6}"
)


def ratio(record: Record) -> float:
    """How many times faster than eager fp32, which was timed turn by turn with it."""
    return float(record["base_seconds"] / record["seconds"])


def rates_line(device: Record) -> str:
    """What the device can do, measured on it."""
    products = ", ".join(f"{device[name] / 1e12:.3g} {name}" for name in ("fp32", "tf32", "bf16"))
    return (
        f"{device['device']}, torch {device['torch']}; TFLOP/s of matrix products: {products}; "
        f"copies {device['copy'] / 1e12:.3g} TB/s"
    )


def row(record: Record, rates: Record, counted: Record, first: float | None) -> str:
    """A measurement's line: `rates` are the device's, `counted` a call's operations and bytes.

    `first` is how long it took until two calls were done where nothing was compiled yet.
    """
    precision = record["variant"].split()[-1]
    seconds, flops, moved = record["seconds"], counted.get("flops", 0), counted.get("bytes", 0)
    moved = moved / 2 if precision == "bf16" else moved
    rate = flops / seconds
    own = record["first_seconds"]
    return (
        f"{record['part']:16} {record['variant']:14} {1e3 * seconds:9.2f} {ratio(record):8.2f} {rate / 1e12:8.2f} "
        f"{_share(rate, rates.get(precision))} {_share(moved / seconds, rates.get('copy'))} "
        f"{_of(record.get('busy'), '5.2f')} {record['images'] / seconds:9.0f} "
        f"{_of(own if first is None else first, '8.1f')} {_of(None if first is None else own, '8.1f')} "
        f"{_of(record['peak'] / 1e9 or None, '6.2f')}"
    )


def check_line(record: Record) -> str:
    """A comparison's line."""
    verdict = "equal to eager mode" if record["ok"] else "NOT EQUAL to eager mode"
    more = "" if record["compiled"] else ", and part of it did not run compiled"
    errors = f"losses {record['losses']:.1e} (1e-5), gradients {record['gradients']:.1e} (1e-4)"
    return f"{record['part']:16} {record['variant']:14} {verdict}: {errors}{more}"


def verdicts(records: Iterable[Record]) -> Iterator[str]:
    """The targets beside what was measured."""
    timed = {(r["part"], r["variant"]): r for r in records if "seconds" in r}
    for part, target in FASTER.items():
        found = [(ratio(r), variant) for (p, variant), r in timed.items() if p == part and variant != BASE]
        if found:
            value, variant = max(found)
            yield _verdict(f"{part}: {variant} over eager fp32", value, target)
    for (part, variant), record in timed.items():
        if part in TRAINED and variant.startswith("compiled") and record.get("busy") is not None:
            yield _verdict(f"{part}: {variant}, share of time that the GPU is busy", record["busy"], BUSY)
    for part in FASTER:
        high, low = timed.get((part, "compiled tf32")), timed.get((part, "compiled bf16"))
        if high and low:
            yield _verdict(f"{part}: compiled bf16 over compiled tf32", ratio(low) / ratio(high), LOWER)


def _verdict(what: str, value: float, target: float) -> str:
    return f"{what:64} {value:6.2f}    (target: {target:g}{'' if value >= target else ', MISSED'})"


def _share(value: float, of: float | None) -> str:
    return _of(value / of if of and value else None, "8.3f")


def _of(value: float | None, form: str) -> str:
    return f"{value:{form}}" if value is not None else f"{'-':>{form.partition('.')[0]}}"
