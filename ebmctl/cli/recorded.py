"""The command that was given, kept with its result."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from ebmctl.models.card import public_reference

PATHS = {"path", "file", "directory"}


def command(context: typer.Context) -> str:
    """The command line that was given, without --debug, as others may see it: of files and folders the names alone."""
    words: list[str] = []
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if name != "debug" and source is not None and source.name == "COMMANDLINE":
            words += _words(parameter, context.params[name])
    return shlex.join(["ebmctl", str(context.info_name), *words])


def _words(parameter: Any, value: Any) -> Iterator[str]:
    """An option or an argument as it is written, once for each of its values."""
    is_option = parameter.param_type_name == "option"
    option = [parameter.opts[0]] if is_option else []
    if is_option and parameter.is_flag:
        yield from option if value else parameter.secondary_opts[:1]
        return
    named = getattr(getattr(parameter, "type", None), "name", "") in PATHS  # Typer before 0.29 keeps paths as text
    for one in value if isinstance(value, (list, tuple)) else [value]:
        yield from (*option, Path(one).name if named or isinstance(one, Path) else _shown(str(one)))


def _shown(text: str) -> str:
    """A value, perhaps of the form NAME=MODEL, without where on this machine something is."""
    if not text:
        return text
    name, equals, value = text.partition("=")
    return f"{name}={public_reference(value)}" if equals else public_reference(text)
