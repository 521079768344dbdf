"""What a recipe chooses by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ebmctl.config import conversion


@dataclass(frozen=True)
class Part:
    """A named choice from the registry with its own options, already checked."""

    name: str
    """Which one."""
    options: Any
    """Its settings, which are further keys of the same section."""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as a recipe file holds them."""
        return {"name": self.name, **conversion.plain(self.options)}
