"""A run's metrics.jsonl: its lines, the series in them, and which of those belong into one picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ebmctl.config.schema import EVAL_DISTANCE, EVAL_SCORE
from ebmctl.errors import EbmctlError

FILE = "metrics.jsonl"
LARGEST = 1e100  # of a value or a step in a series: beyond it sums and axes overflow, and no training means it
UNDRAWN = {"step", "phase", "seconds", "lr", "buffer", "loss_cd"}  # the last is the energy difference
DIFFERENCE = "energy_difference"
ALONE = {  # first what tells most; the scores are of the averaged weights, now and then
    EVAL_DISTANCE: "Fréchet distance from held-out images, by the run's extractor",
    EVAL_SCORE: "Inception score, by the run's extractor",
    DIFFERENCE: "energy difference, E(data) - E(samples)",
}


class Series(NamedTuple):
    """Values at training steps, in the order of the steps; all are finite."""

    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Group:
    """Series of one picture, by their names in it; each has two steps at least."""

    title: str
    series: Mapping[str, Series]


@dataclass(frozen=True)
class Metrics:
    """The whole lines of a metrics.jsonl: those of steps, and events such as a rollback."""

    lines: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def read(cls, path: Path) -> Metrics:
        """The lines of a file, none where there is no file; raises EbmctlError where it can't be read.

        Lines that are damaged, or were cut short by a crash, are left out, and those around them are not.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            raise EbmctlError(f"can't read {path}: {error.strerror}") from error
        return cls([values for _, values in _lines(data) if values is not None])

    @property
    def steps(self) -> list[Mapping[str, Any]]:
        """The lines of steps, each with its `step`."""
        return [line for line in self.lines if "event" not in line]

    @property
    def events(self) -> list[Mapping[str, Any]]:
        """The lines of events, each with its `attempt`."""
        return [line for line in self.lines if "event" in line]

    def series(self, key: str) -> Series:
        """What the steps have under a key, where that is a finite number."""
        found = [(line["step"], float(line[key])) for line in self.steps if is_number(line.get(key))]
        found.sort(key=lambda point: point[0])
        return Series([step for step, _ in found], [value for _, value in found])

    def groups(self) -> list[Group]:
        """All series of two steps or more by pictures, first what tells most."""
        keys = dict.fromkeys(key for line in self.steps for key in line if key not in UNDRAWN)
        known = {key: found for key in keys if len(set((found := self.series(key)).steps)) > 1}
        energies = [key for key in known if key.startswith("energy_") and key != DIFFERENCE]
        gradients = sorted(key for key in known if key.partition("_")[0] == "gradient")  # that of all comes first
        others = [key for key in known if key not in {*ALONE, *energies, *gradients}]
        pictures = [
            *((title, {key: key}) for key, title in ALONE.items()),
            ("mean energy", _named("energy", energies)),
            *((key.replace("_", " "), {key: key}) for key in others),
            ("norm of the gradient", _named("gradient", gradients)),
        ]
        groups = [
            Group(title, {name: known[key] for name, key in names.items() if key in known}) for title, names in pictures
        ]
        return [group for group in groups if group.series]


def _named(what: str, keys: Sequence[str]) -> dict[str, str]:
    """Keys by short names: `gradient` is "all", `gradient_x` is "x"; one that has none of its own keeps the key."""
    names: dict[str, str] = {}
    for key in keys:
        name = "all" if key == what else key.removeprefix(f"{what}_")
        names[key if name in names or not name else name] = key
    return names


def is_number(value: Any) -> bool:
    """Whether a value of a line is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def kept_bytes(data: bytes, belongs: Callable[[Mapping[str, Any]], bool]) -> int:
    """How many bytes of a metrics.jsonl reach to the end of its last line before one that does not belong.

    A damaged line counts as one of those before it; where all after it is damaged or missing, it is not kept.
    """
    kept = 0
    for end, values in _lines(data):
        if values is None:
            continue
        if not belongs(values):
            break
        kept = end
    return kept


def _lines(data: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Where each line ends, in bytes, and what it holds."""
    end = 0
    for line in data.split(b"\n"):
        end = min(end + len(line) + 1, len(data))
        yield end, _parsed(line)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line that is whole: an object of a step, or of an event of some attempt; else None."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):  # the latter of brackets in brackets
        return None
    if not isinstance(values, dict):
        return None
    number = values.get("attempt" if "event" in values else "step")
    whole = isinstance(number, int) and is_number(number)
    return values if whole else None
