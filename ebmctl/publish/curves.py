"""The curves of a training in the Hub's model card."""

from __future__ import annotations

import base64
import re

from ebmctl.evaluation.curves import about, png
from ebmctl.models.metrics import Metrics

PICTURES = 3  # at most, of those that tell most
ROOM = 60_000  # characters for all of them


def in_markdown(metrics: Metrics) -> str:
    """Pictures of the first groups of a run's series, as data addresses: the Hub is sent no picture files.

    Raises EbmctlError that says how to get matplotlib, where there is something to draw.
    """
    shown: list[str] = []
    for group in metrics.groups()[:PICTURES]:
        picture = f"![{_plain(about(group))}](data:image/png;base64,{base64.b64encode(png(group)).decode()})"
        if sum(map(len, shown)) + len(picture) <= ROOM:
            shown.append(picture)
    return "\n\n".join(shown)


def _plain(text: str) -> str:
    """Text of one line that Markdown takes as it is."""
    return re.sub(r"([][\\<>&`*_!])", r"\\\1", " ".join(text.split()))
