"""Names to factories: the plugin manager, and look-up of what is registered."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pluggy

from ebmctl import builtins, hookspecs
from ebmctl.errors import UsageError, unknown

KINDS = {
    "architecture": "register_architectures",
    "objective": "register_objectives",
    "sampler": "register_samplers",
    "augmentation": "register_augmentations",
    "dataset": "register_datasets",
}


@dataclass(frozen=True)
class Entry:
    """Something registered: a factory (or its import string), a line about it, and the dataclass of its options."""

    name: str
    factory: str | Callable[..., Any]
    about: str
    options: str | type | None = None

    def load(self) -> Callable[..., Any]:
        """The factory itself."""
        return load_object(self.factory)  # type: ignore[no-any-return]  # a factory by the hook's contract

    def load_options(self) -> type:
        """The dataclass of the options."""
        return load_object(self.options or "ebmctl.registry:NoOptions")  # type: ignore[no-any-return]  # by the hook's contract


@dataclass(frozen=True)
class NoOptions:
    """The options of a factory that has none."""


def load_object(target: Any) -> Any:
    """What an import string `module:name` names; anything else is returned as it is."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@functools.cache
def manager() -> pluggy.PluginManager:
    """The plugin manager, with what ships and what installed packages add (entry-point group `ebmctl`)."""
    plugins = pluggy.PluginManager("ebmctl")
    plugins.add_hookspecs(hookspecs)
    plugins.register(builtins, "ebmctl")
    plugins.load_setuptools_entrypoints("ebmctl")
    return plugins


@functools.cache
def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind (see KINDS) by name."""
    found: dict[str, Entry] = {}

    def register(
        name: str, factory: str | Callable[..., Any], about: str, *, options: str | type | None = None
    ) -> None:
        if name in found:
            raise UsageError(f"two plugins register the {kind} '{name}'")
        found[name] = Entry(name, factory, about, options)

    getattr(manager().hook, KINDS[kind])(register=register)
    return found


def find(kind: str, name: str) -> Entry:
    """The entry of that name; raises UsageError with the nearest known name."""
    known = entries(kind)
    if name not in known:
        raise unknown(kind, name, known)
    return known[name]


def find_dataset(name: str) -> None:
    """Check that a dataset name is known, or is folder:PATH or shards:PATH (or after flipped:); raises UsageError."""
    name = name.removeprefix("flipped:")
    if not name.startswith(("folder:", "shards:")):
        find("dataset", name)


def native_shape(dataset: str) -> tuple[int, int]:
    """Size and channels that a dataset has of itself; 32 and 3 where it is not known."""
    dataset = dataset.removeprefix("flipped:")
    if dataset.startswith("shards:"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):  # said when it is opened
            index = json.loads(Path(dataset.removeprefix("shards:"), "index.json").expanduser().read_text("utf-8"))
            return int(index["shape"][1]), int(index["shape"][0])
    return builtins.NATIVE.get(dataset, (32, 3))
