"""Errors that a user can act on: one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EbmctlError(Exception):
    """Something failed; the command line prints the message as one line and exits with `status`.

    `detail` are lines to show under it, such as a pointer to the place.
    """

    status = 1

    def __init__(self, message: str, detail: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.detail = detail


class UsageError(EbmctlError):
    """The command, a recipe or an argument is wrong (exit status 2)."""

    status = 2


class DivergedError(EbmctlError):
    """Training diverged."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name that does not exist, with the nearest that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    return UsageError(f"unknown {kind} '{name}': {hint}")
