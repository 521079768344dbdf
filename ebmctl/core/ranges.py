"""The range of a setting, told once: in its type, which is checked and which the reference shows."""

from __future__ import annotations

import functools
import typing
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`, or, with the end left out, above `above` and under `under`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    under: float | None = None

    def __contains__(self, value: float) -> bool:
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.under is None or value < self.under)
        )

    def __str__(self) -> str:
        if self.least is not None and self.most is not None:
            return f"between {self.least} and {self.most}"
        ends = {"at least": self.least, "above": self.above, "at most": self.most, "under": self.under}
        return " and ".join(f"{word} {end}" for word, end in ends.items() if end is not None)


@dataclass(frozen=True)
class OneOf:
    """A few values."""

    values: tuple[int, ...]

    def __contains__(self, value: int) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " or ".join(map(str, self.values))


Natural = Annotated[int, Range(0)]
Count = Annotated[int, Range(1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(above=0, most=1)]
Decay = Annotated[float, Range(0, under=1)]


class Checked:
    """A dataclass whose values lie in the ranges of their fields' types: it raises ValueError where one does not."""

    def __post_init__(self) -> None:
        for name, allowed in ranges(type(self)).items():  # type: ignore[arg-type]  # a class is hashable
            value = getattr(self, name)
            for item in value if isinstance(value, tuple) else (value,):
                if item not in allowed:
                    raise ValueError(f"{'each of ' if item is not value else ''}{name} must be {allowed}, not {item}")


@functools.cache
def ranges(cls: type) -> dict[str, Range | OneOf]:
    """The fields of a class that have a range; one of a base class holds where a field is told again without."""
    found: dict[str, Range | OneOf] = {}
    for base in reversed(cls.__mro__):
        for name, kind in typing.get_type_hints(base, include_extras=True).items():
            if allowed := _range(kind):
                found[name] = allowed
    return found


def _range(kind: Any) -> Range | OneOf | None:
    """What a type says of its values, or a tuple's of its items."""
    inside = [*getattr(kind, "__metadata__", ()), *map(_range, typing.get_args(kind))]
    return next((item for item in inside if isinstance(item, (Range, OneOf))), None)
