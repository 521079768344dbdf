"""A dataset's name as a value: parsed once, where a command or a recipe is read."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ebmctl.config import registry
from ebmctl.config.plugins import Entry
from ebmctl.errors import EbmctlError
from ebmctl.files import read_json, user_path

FLIPPED = "flipped:"
DEFAULT_RECIPE = "default"
USUAL_SHAPE = (32, 3)  # size and channels


@dataclass(frozen=True)
class DatasetName:
    """A dataset's name: a registered one, folder:PATH or shards:PATH; with the prefix flipped: the images upside down.

    `source` is the name or the path.
    """

    kind: Literal["registered", "folder", "shards"]
    source: str
    flipped: bool = False

    @classmethod
    def parse(cls, text: str) -> DatasetName:
        """Parse a name, known or not (see `checked`)."""
        flipped, rest = text.startswith(FLIPPED), text.removeprefix(FLIPPED)
        kind, colon, path = rest.partition(":")
        if colon and kind == "folder":
            return cls("folder", path, flipped)
        if colon and kind == "shards":
            return cls("shards", path, flipped)
        return cls("registered", rest, flipped)

    def __str__(self) -> str:
        kind = "" if self.kind == "registered" else f"{self.kind}:"
        return f"{FLIPPED if self.flipped else ''}{kind}{self.source}"

    def checked(self) -> DatasetName:
        """The same; raises UsageError with the nearest known name where it is registered nowhere."""
        if self.kind == "registered":
            registry.find("dataset", self.source)
        return self

    @property
    def path(self) -> Path:
        """The folder, of a folder or of shards."""
        return user_path(self.source)

    @property
    def public(self) -> str:
        """What others may see: the name, and of a path its kind alone."""
        return f"{FLIPPED if self.flipped else ''}{self.source if self.kind == 'registered' else self.kind}"

    @property
    def slug(self) -> str:
        """What a run folder is named after."""
        return re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.source).name).strip("-") or "run"

    @property
    def native_shape(self) -> tuple[int, int] | None:
        """The images' own size and channels; None where these vary, or are not known."""
        if self.kind == "shards":
            with contextlib.suppress(
                EbmctlError, ArithmeticError, ValueError, LookupError, TypeError
            ):  # reported when it is opened
                index = read_json(self.path / "index.json")
                return int(index["shape"][1]), int(index["shape"][0])
        return self._entry.shape if self._entry else None

    @property
    def offline(self) -> bool:
        """Whether it needs no download, and the zoo has a classifier of its images."""
        return self._entry is not None and self._entry.offline

    @property
    def recipe(self) -> str:
        """The default recipe: the one with its name, or the registered one."""
        if self.source in registry.entries("recipe") and self.kind == "registered":
            return self.source
        return (self._entry and self._entry.recipe) or DEFAULT_RECIPE

    @property
    def _entry(self) -> Entry | None:
        return registry.entries("dataset").get(self.source) if self.kind == "registered" else None
