"""Markdown from plain values."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120
BLOCK = re.compile(
    r"([-+*>#=]|\d+[.)])(\s|$)", re.M
)  # what begins something else than text where a line begins with it


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, with the cells' bars escaped."""
    lines = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (header, *rows)]
    return "\n".join([f"| {lines[0]} |", "|" + "---|" * len(header), *(f"| {line} |" for line in lines[1:])])


def code(value: object) -> str:
    """A value as a recipe writes it."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def item(text: str) -> str:
    """An item of a list, wrapped where no line begins as something else than text."""
    for width in range(WIDTH, WIDTH // 2, -1):
        lines = textwrap.wrap(text, width - 2, break_long_words=False, break_on_hyphens=False)
        if not any(map(BLOCK.match, lines)):
            break
    return "- " + "\n  ".join(lines)
