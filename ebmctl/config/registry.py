"""Look-up by name of what ebmctl itself (`builtins`) and plugins register."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ebmctl.config import plugins
from ebmctl.config.plugins import Entry
from ebmctl.errors import EbmctlError, unknown


@functools.cache
def entries(kind: str) -> dict[str, Entry]:
    """All entries of a kind (see `plugins.HOOKS`) by name; of those with one name the first."""
    found: dict[str, Entry] = {}
    for plugin in plugins.installed():
        for entry in plugin.entries:
            if entry.kind == kind:
                found.setdefault(entry.name, entry)
    return found


def find(kind: str, name: str) -> Entry:
    """The entry of that name.

    Raises UsageError with the nearest known name, and EbmctlError where two packages register that one.
    """
    known = entries(kind)
    if name not in known:
        raise unknown(kind, name, known)
    same = [entry for p in plugins.installed() for entry in p.entries if (entry.kind, entry.name) == (kind, name)]
    if len(same) > 1:
        raise EbmctlError(plugins.conflict(same))
    return same[0]


def needed(parts: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The plugins that register these (kind, name), as a model's `config.json` names them; without ebmctl itself."""
    found: dict[str, dict[str, Any]] = {}
    for kind, name in dict.fromkeys(parts):
        entry = entries(kind).get(name)
        if entry is not None and entry.package != plugins.OWN:
            plugin = {"package": entry.package, "version": entry.version, "entries": []}
            found.setdefault(entry.package, plugin)["entries"].append(f"{kind} {name}")
    return list(found.values())


def check_needed(listed: Sequence[Mapping[str, Any]]) -> None:
    """Raise EbmctlError if an entry that `needed` once listed is missing now, with the package to install.

    Datasets are not checked: a model can be used without them. Raises KeyError, TypeError or ValueError if
    `listed` does not have the form of what `needed` returns.
    """
    for plugin in listed:
        package, version = str(plugin["package"]), str(plugin["version"])
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", package):  # the error tells people to install it
            raise ValueError(f"plugins.package {package!r}")
        for text in plugin["entries"]:
            kind, _, name = str(text).partition(" ")
            if kind in plugins.HOOKS and kind != "dataset" and name not in entries(kind):
                raise EbmctlError(_how_to_get(package, version, f"{kind} '{name}'"))


def _how_to_get(package: str, version: str, entry: str) -> str:
    same = [p for p in plugins.installed() if plugins.canonical(p.package) == plugins.canonical(package)]
    made = f"the model was trained with the {entry} of {package} {version}"
    if same:
        return f"{made}; the installed version {same[0].version} lacks it: {same[0].problem or 'see its changelog'}"
    if plugins.is_installed(package):
        return f"{made}, which is installed, but excluded by EBMCTL_PLUGINS"
    return f"{made}, which is not installed: pip install {package}"
