"""Curves as text, for places that take no pictures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 64, 10  # characters, of 2 x 4 dots each
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille character, by column and row


def curve(title: str, steps: Sequence[int], values: Sequence[float]) -> str:
    """A curve over steps, averaged where there are more steps than columns; what is not finite is left out."""
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return ""
    first, last = points[0][0], points[-1][0]
    columns: dict[int, list[float]] = {}
    for step, value in points:
        columns.setdefault(round((step - first) / (last - first) * (2 * WIDTH - 1)), []).append(value)
    shown = _filled({column: sum(values) / len(values) for column, values in columns.items()})
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    cells = [[0] * WIDTH for _ in range(HEIGHT)]
    before: int | None = None
    for x, mean in enumerate(shown):
        y = round((high - mean) / span * (4 * HEIGHT - 1))
        for dot in range(*_between(before, y)):
            cells[dot // 4][x // 2] |= _DOTS[x % 2][dot % 4]
        before = y
    margin = max(len(_number(high)), len(_number(low)))
    labels = [_number(high), *[""] * (HEIGHT - 2), _number(low)]
    drawn = ("".join(chr(0x2800 + cell) for cell in row) for row in cells)
    rows = [f"{label:>{margin}} │{row}" for label, row in zip(labels, drawn, strict=True)]
    axis = f"{'':>{margin}} └" + "─" * WIDTH
    ends = f"{first:,}"
    below = f"{'':>{margin}}  {ends}{f'step {last:,}':>{WIDTH - len(ends)}}"
    return "\n".join([title, *rows, axis, below])


def _filled(known: dict[int, float]) -> list[float]:
    """A value for every column: straight lines between those that have one."""
    columns = sorted(known)
    filled = [known[columns[0]]]
    for left, right in itertools.pairwise(columns):
        rise = (known[right] - known[left]) / (right - left)
        filled += [known[left] + rise * (column - left) for column in range(left + 1, right + 1)]
    return filled


def _between(before: int | None, y: int) -> tuple[int, int]:
    """The dots of a column that join it to the one before."""
    if before is None or before == y:
        return y, y + 1
    return (before + 1, y + 1) if before < y else (y, before)


def _number(value: float) -> str:
    return f"{value:.3g}"
