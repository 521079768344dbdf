"""Results for people: the rows of a table, and the lines of a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table: the first column names the rows; the last one is text where `text_last` says so, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_last: bool = False


@dataclass(frozen=True)
class CardRow:
    """A metric in a model card: the Hub's name of the task, the data, the value, and a note on how it was measured."""

    task: str
    dataset: str
    metric: str
    value: float
    note: str
    split: str = "test"
