"""Plugins: what installed packages register under the entry-point group `ebmctl`, isolated from each other.

A plugin that fails is left out with a one-line warning; EBMCTL_STRICT_PLUGINS=1 makes it an error.
EBMCTL_PLUGINS=a,b loads only those (by package or by entry point); empty, none.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from importlib import metadata, resources
from typing import Any

import pluggy

from ebmctl.config import builtins, conversion, hookspecs
from ebmctl.errors import EbmctlError, UsageError

HOOKS = {
    "architecture": "register_architectures",
    "objective": "register_objectives",
    "sampler": "register_samplers",
    "augmentation": "register_augmentations",
    "dataset": "register_datasets",
    "recipe": "register_recipes",
}
OWN = "ebmctl"  # the package of what ships
logger = logging.getLogger("ebmctl")


@dataclass(frozen=True)
class NoOptions:
    """The options of a factory that has none."""


@dataclass(frozen=True)
class Entry:
    """Something registered, and by which package: a factory, or a recipe's `package:path`, with a line about it."""

    kind: str
    name: str
    factory: str | Callable[..., Any]
    about: str
    package: str
    version: str
    options: str | type | None = None
    shape: tuple[int, int] | None = None
    recipe: str | None = None
    offline: bool = False

    def __str__(self) -> str:
        return f"the {self.kind} '{self.name}' of {self.package} {self.version}"

    def load(self) -> Callable[..., Any]:
        """The factory itself; raises EbmctlError where a plugin's can't be imported."""
        factory = self._follow(self.factory)
        if not callable(factory):
            raise EbmctlError(f"{self} is not callable: {factory!r}")
        return factory  # type: ignore[no-any-return]  # a factory by the hook's contract

    def load_options(self) -> type:
        """The dataclass of the options; raises EbmctlError where a plugin's can't be imported."""
        found = self._follow(self.options or NoOptions)
        if not (isinstance(found, type) and is_dataclass(found)):
            raise EbmctlError(f"the options of {self} are not a dataclass: {found!r}")
        return found

    def make(self, *arguments: Any) -> Any:
        """Call the factory; raises UsageError for settings that it rejects.

        Any other error in a plugin's factory becomes an EbmctlError; errors in ebmctl's own are not caught.
        """
        factory = self.load()
        try:
            return factory(*arguments)
        except EbmctlError:
            raise
        except ValueError as error:
            raise UsageError(str(error)) from error
        except Exception as error:  # a plugin's code may raise anything
            if self.package == OWN:
                raise
            raise EbmctlError(f"{self} failed: {in_a_line(error)}") from error

    def _follow(self, target: Any) -> Any:
        if not isinstance(target, str):
            return target
        module, _, name = target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # importing runs a plugin's code
            if self.package == OWN:
                raise
            raise EbmctlError(f"{self} can't be loaded: {in_a_line(error)}") from error


@dataclass(frozen=True)
class Plugin:
    """An entry point of an installed package, what it registers, and what is wrong with it (None: nothing)."""

    name: str
    package: str
    version: str
    entries: tuple[Entry, ...]
    problem: str | None = None


@functools.cache
def installed() -> tuple[Plugin, ...]:
    """What ships, then every plugin that EBMCTL_PLUGINS allows; warns about problems, or raises in strict mode."""
    own = _collect(OWN, OWN, metadata.version(OWN), lambda: builtins)
    if own.problem:
        raise EbmctlError(own.problem)
    found = [own]
    points = _points()
    wanted = chosen()
    for point in points:
        assert point.dist is not None
        if wanted is None or {point.name, canonical(point.dist.name)} & wanted:
            found.append(_collect(point.name, point.dist.name, point.dist.version, point.load))
    known = {name for point in points if point.dist for name in (point.name, canonical(point.dist.name))}
    problems = [f"the plugin {p.name} of {p.package} {p.version} is broken: {p.problem}" for p in found if p.problem]
    problems += [f"EBMCTL_PLUGINS names '{name}', which is not installed" for name in sorted((wanted or set()) - known)]
    problems += conflicts(found)
    for problem in problems:
        report(problem)
    return tuple(found)


def _points() -> list[metadata.EntryPoint]:
    points = [point for point in metadata.entry_points(group=OWN) if point.dist is not None]
    return sorted(points, key=lambda point: (point.dist.name if point.dist else "", point.name))


def report(problem: str) -> None:
    """Warn about a problem with a plugin; raises EbmctlError with EBMCTL_STRICT_PLUGINS=1."""
    if os.environ.get("EBMCTL_STRICT_PLUGINS", "0") not in ("", "0"):
        raise EbmctlError(problem)
    logger.warning("%s", problem)


def chosen() -> set[str] | None:
    """The packages and entry points that EBMCTL_PLUGINS allows; None for all."""
    given = os.environ.get("EBMCTL_PLUGINS")
    return None if given is None else {canonical(name.strip()) for name in given.split(",") if name.strip()}


def is_installed(package: str) -> bool:
    """Whether a package is installed, loaded or not."""
    return any(point.dist and canonical(point.dist.name) == canonical(package) for point in _points())


def canonical(name: str) -> str:
    """A package's name as pip compares it."""
    return name.lower().replace("_", "-").replace(".", "-")


def conflicts(found: Sequence[Plugin]) -> list[str]:
    """A line for each name that more than one plugin registers."""
    by_name: dict[tuple[str, str], list[Entry]] = {}
    for entry in (entry for plugin in found for entry in plugin.entries):
        by_name.setdefault((entry.kind, entry.name), []).append(entry)
    return [conflict(entries) for entries in by_name.values() if len(entries) > 1]


def conflict(entries: Sequence[Entry]) -> str:
    """The message about entries with the same name."""
    first, packages = entries[0], " and ".join(f"{entry.package} {entry.version}" for entry in entries)
    return (
        f"the {first.kind} '{first.name}' is registered by {packages}: "
        "uninstall one of them, or name the plugins to load in EBMCTL_PLUGINS"
    )


def _collect(name: str, package: str, version: str, load: Callable[[], Any]) -> Plugin:
    """Load one plugin and call its hooks; a hook that fails registers nothing."""
    manager = pluggy.PluginManager(OWN)  # one for each, so that none can break another
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(load(), name)
        manager.check_pending()  # hooks that do not exist
    except (Exception, SystemExit) as error:
        return Plugin(name, package, version, (), in_a_line(error))
    entries: list[Entry] = []
    problems: list[str] = []
    for kind, hook in HOOKS.items():
        registered = _Registrations(kind, package, version)
        try:
            getattr(manager.hook, hook)(register=registered.add_folder if kind == "recipe" else registered.add)
        except (Exception, SystemExit) as error:
            problems.append(f"{hook}: {in_a_line(error)}")
        else:
            entries += registered.entries
    if not (entries or problems):
        problems.append("it registers nothing; mark its hooks with @ebmctl.hookimpl")
    return Plugin(name, package, version, tuple(entries), "; ".join(problems) or None)


class _Registrations:
    """Collects what one hook of a plugin registers; raises ValueError if that is malformed."""

    def __init__(self, kind: str, package: str, version: str) -> None:
        self.kind, self.package, self.version = kind, package, version
        self.entries: list[Entry] = []

    def add(self, name: str, factory: str | Callable[..., Any], about: str, **more: Any) -> None:
        """Passed to a hook as `register` (see `hookspecs.Register`)."""
        if not isinstance(name, str) or not name or not name.isprintable() or set(name) & set(" ,:/"):
            raise ValueError(
                f"a {self.kind}'s name must be a string without spaces, commas, colons or slashes, not {name!r}"
            )
        if not isinstance(about, str) or not about.isprintable():
            raise ValueError(f"the description of '{name}' must be one line of text, not {about!r}")
        for target in (factory, more.get("options")):
            if isinstance(target, str) and not all(target.partition(":")):
                raise ValueError(f"an import string must be module:name, not '{target}'")
        if not isinstance(factory, str) and not callable(factory):
            raise ValueError(f"the factory of '{name}' must be an import string or callable, not {factory!r}")
        self.entries.append(Entry(self.kind, name, factory, about, self.package, self.version, **more))

    def add_folder(self, folder: str) -> None:
        """Passed to the hook of recipes as `register` (see `hookspecs.RegisterRecipes`)."""
        package, _, path = folder.partition(":")
        files = [item for item in (resources.files(package) / path).iterdir() if item.name.endswith(".toml")]
        if not files:
            raise ValueError(f"there is no recipe in '{folder}'")
        for item in sorted(files, key=lambda item: item.name):
            with resources.as_file(item) as file:
                about = conversion.read_toml(file).get("about", "")
            self.add(item.name.removesuffix(".toml"), f"{package}:{path}/{item.name}", about)


def in_a_line(error: BaseException) -> str:
    """An exception as one line of text that can be printed."""
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
