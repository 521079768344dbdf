"""`python -m bench gpu [PART]...`: the speed table of the device that is found here.

Every figure is printed, and appended as a line of JSON to $OUT/speed.jsonl or --out, as soon as it is known. Without a
GPU it is a trial, with sizes that tell nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.gpu import table

PARTS = ("langevin", "sample", "score", "score-gradient", "icd", "matching", "matching-unet", "check", "check-unet")
TABLE = ("compiled tf32", "compiled bf16", "captured tf32", "eager fp32", "eager tf32")  # the most wanted first
FEW = dict.fromkeys(("sample", "score", "score-gradient"), ("compiled bf16", "captured tf32", "eager fp32"))
MEASURE = ("-m", "bench.gpu.measure")
EQUAL = ("captured fp32", "compiled fp32")  # compared with eager mode


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench gpu", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--variants", help="some only, such as eager-tf32,compiled-tf32")
    parser.add_argument("--small", action="store_true", help="for a trial; always so without a GPU")
    parser.add_argument("--together", action="store_true", help="first compile all at once, for Inductor's cache")
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds after which nothing goes on")
    parser.add_argument("--seconds", type=float, default=5, help="that a measurement times")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change the recipe")
    parser.add_argument("--out", type=Path, help="where lines of JSON are appended")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    small = given.small or not _gpu()
    more = [*(["--small"] if small else []), *(f"--set={text}" for text in given.set)]
    more += [f"--seconds={0.2 if small else given.seconds}"]
    out = given.out or (Path(os.environ["OUT"]) / "speed.jsonl" if os.environ.get("OUT") else None)
    run = Run(
        out or Path(tempfile.mkdtemp()) / "speed.jsonl",
        time.monotonic() + given.limit,
        [f"--seconds={0.2 if small else given.seconds}", *more],
    )
    plan = planned(given.parts, given.variants.replace("-", " ").split(",") if given.variants else ())
    run.rates()
    print(table.HEAD, flush=True)
    if given.together:
        run.compile(plan)
    for part, variant in plan:
        run.one(part, variant)
    print("\n".join(table.verdicts(run.records)), flush=True)
    return run.failed


def planned(parts: Sequence[str], chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Parts with their variants, a variant of all parts before the next: where time runs out, each has its first."""
    variants = [chosen or FEW.get(part) or (EQUAL if part.startswith("check") else TABLE) for part in parts]
    rounds = range(max(map(len, variants)))
    return [(part, own[i]) for i in rounds for part, own in zip(parts, variants, strict=True) if i < len(own)]


class Run:
    """Measurements one after the other, each in a process of its own."""

    def __init__(self, out: Path, deadline: float, options: Sequence[str], cache: Path | None = None) -> None:
        self.out, self.deadline, self.options = out, deadline, options
        self.log = out.with_suffix(".log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.environment = {**os.environ, **({"TORCHINDUCTOR_CACHE_DIR": str(cache)} if cache else {})}
        self.records: list[dict[str, Any]] = []
        self.device: dict[str, Any] = {}
        self.first: dict[tuple[str, str], float] = {}  # seconds of a first time
        self.failed = 0

    def rates(self) -> None:
        """Measure what the device can do."""
        self.device = self.measure("rates", "") or {}
        print(table.rates_line(self.device) if self.device else "the device's rates are not known", flush=True)

    def compile(self, plan: Iterable[tuple[str, str]]) -> None:
        """Compile all that is compiled in the plan, at once: on many cores that is as fast as one alone."""
        wanted = [(p, v) for p, v in plan if v.startswith("compiled")]
        cores = os.cpu_count() or 1
        threads = min(cores, max(1, 2 * cores // max(1, len(wanted))))  # of each; while it traces it needs one core
        self.environment["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
        started = [(p, v, self._start(p, v, "--build-only")) for p, v in wanted]
        for part, variant, process in started:
            if record := self._finish(part, variant, process, together=len(wanted)):
                self.first[part, variant] = record.get("first_seconds", 0.0)
        self.environment.pop("TORCHINDUCTOR_COMPILE_THREADS")

    def one(self, part: str, variant: str) -> None:
        """Measure a variant of a part, and print it."""
        if part.startswith("check"):
            self._check(part, variant)
            return
        counted = next((r for r in self.records if r["part"] == part and "flops" in r), None)
        if record := self.measure(part, variant, *([] if counted else ["--count"])):
            print(table.row(record, self.device, counted or record, self.first.get((part, variant))), flush=True)

    def _check(self, part: str, variant: str) -> None:
        done = next((r for r in self.records if (r["part"], r["variant"]) == (part, variant)), None)  # by `compile`
        if record := done or self.measure(part, variant):
            print(table.check_line(record), flush=True)
            self.failed += not record["ok"]

    def measure(self, part: str, variant: str, *options: str) -> dict[str, Any] | None:
        """A measurement's record; None where it failed, or the time is up."""
        if time.monotonic() > self.deadline:
            self.failed += 1
            print(f"{part:16} {variant:14} no time", flush=True)
            return None
        return self._finish(part, variant, self._start(part, variant, *options))

    def _start(self, part: str, variant: str, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, *MEASURE, part, *([variant] if variant else []), *options]
        with self.log.open("a") as log:
            log.write(f"== {part} {variant} {' '.join(options)}\n")
            log.flush()
            return subprocess.Popen(
                [*command, *self.options], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )

    def _finish(self, part: str, variant: str, process: subprocess.Popen[str], **more: Any) -> dict[str, Any] | None:
        """What a process measured; None, said in a line, where it failed or the time is up."""
        try:
            text, _ = process.communicate(timeout=max(0.0, min(self.deadline - time.monotonic(), 1e6)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            text = ""
        if process.returncode or not text:
            self.failed += 1
            reason = "no time" if process.returncode == -9 else f"FAILED: see {self.log}"
            print(f"{part:16} {variant:14} {reason}", flush=True)
            return None
        record: dict[str, Any] = {"part": part, "variant": variant, **json.loads(text.splitlines()[-1]), **more}
        self.records.append(record)
        if record.get("not_compiled"):
            print(f"{part:16} {variant:14} not all of it is compiled: {record['not_compiled'][0]}", flush=True)
        with self.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return record


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.exit(main())
