"""Sphinx configuration. What of the pages comes from the program is made by `docs/generate`, and committed."""

from __future__ import annotations

import re
from typing import Any

import ebmctl

project = "ebmctl"
author = copyright = "The ebmctl authors"
version = release = ebmctl.__version__
extensions = ["myst_parser"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3  # links to headings, as code hosts have them
html_theme = "furo"
html_title = "ebmctl"
exclude_patterns = ["_build"]
nitpicky = False


def with_contents(_app: Any, name: str, source: list[str]) -> None:
    """Give the start page the list of contents that Sphinx wants: the pages that it links to, in that order."""
    if name == "index":
        pages = re.findall(r"^- \[.*?\]\(([\w-]+)\.md\)", source[0], re.M)
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", with_contents)
