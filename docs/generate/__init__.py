"""Makes the parts of the documentation that come from the program: `python -m docs.generate`, or `make reference`.

A page says where such a part stands, by a comment before it and one after it:

    <!-- BEGIN datasets: made by `make reference` -->
    <!-- END -->

What is between them is committed, so that a page reads whole wherever Markdown is shown. A part may have arguments,
one a line in the first comment.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from docs.generate import api, commands, keys, tables

DOCS = Path(__file__).parents[1]
PARTS: dict[str, Callable[[list[str]], str]] = {
    "api": api.described,
    "commands": lambda _: commands.helps(),
    "datasets": lambda _: tables.datasets(),
    "keys": lambda _: keys.sections(),
    "recipes": lambda _: tables.recipes(),
}
BEGIN = r"<!-- BEGIN (?P<name>\w+): made by `make reference`(?P<arguments>[^>]*)-->\n"
PART = re.compile(rf"(?P<begin>{BEGIN}).*?<!-- END -->", re.S)


def remade(page: str) -> str:
    """A page with its parts as the program is now; raises KeyError for a part that is not known."""

    def part(found: re.Match[str]) -> str:
        made = PARTS[found["name"]](found["arguments"].split("\n"))
        return f"{found['begin']}\n{made.strip()}\n\n<!-- END -->"

    return PART.sub(part, page)


def pages() -> list[Path]:
    """The pages of the documentation."""
    return sorted(DOCS.glob("*.md"))
