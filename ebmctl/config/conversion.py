"""Frozen dataclasses from plain mappings (TOML, JSON, key=value), with errors that name the key and what it must be."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from ebmctl.errors import UsageError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make `cls` from a mapping; `where` is the dotted path that errors name. Raises UsageError."""
    hints = typing.get_type_hints(cls)
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    converted = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else key
        if key not in fields:
            raise unknown("key", path, [f"{where}.{f}" if where else f for f in fields])
        converted[key] = convert(value, hints[key], path)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # as above
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"{where}.{field.name} is missing" if where else f"{field.name} is missing")
    try:
        return cls(**converted)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from error


def convert(value: Any, kind: Any, path: str) -> Any:
    """`value` as the type `kind`, without guessing: an int may stand for a float, a list for a tuple, nothing else.

    Of a union it becomes the first type that accepts it. Raises UsageError that names the path.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if value in arguments:
            return value
        raise _unlike(path, " or ".join(repr(a) for a in arguments), value)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        *others, last = (a for a in arguments if a is not type(None))
        for kind in others:
            with contextlib.suppress(UsageError):
                return convert(value, kind, path)
        return convert(value, last, path)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (arguments[-1] is not Ellipsis and len(value) != len(arguments)):
            count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
            what = "numbers" if arguments[0] in (int, float) else "values"
            raise _unlike(path, f"a list of {count}{what}", value)
        return tuple(convert(item, arguments[0], path) for item in value)
    if origin is Mapping and isinstance(value, Mapping):
        return {key: convert(item, arguments[1], f"{path}.{key}") for key, item in value.items()}
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value, path)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        return build(kind, value, path)
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}
    raise _unlike(path, names.get(kind, "a table"), value)


def _finite(value: float, path: str) -> float:
    with contextlib.suppress(OverflowError):  # from an int that is too large
        if math.isfinite(number := float(value)):
            return number
    raise _unlike(path, "a finite number", value)


def _unlike(path: str, wanted: str, value: Any) -> UsageError:
    return UsageError(f"{path} must be {wanted}, not {value!r}")


def plain(config: Any) -> dict[str, Any]:
    """A dataclass as a mapping of plain values, tuples as lists, without the keys that are None."""
    values = config if isinstance(config, Mapping) else dataclasses.asdict(config)
    return {k: _plain_value(v) for k, v in values.items() if v is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return list(value) if isinstance(value, tuple) else value


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises UsageError with one line that names the file."""
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return document
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """`key.path=value` as (path, value); the value is read as TOML, or else as a string."""
    key, equals, value = text.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UsageError(f"--set must be key=value, such as optimizer.lr=1e-3, not '{text}'")
    try:
        return path, tomllib.loads(f"value = {value.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        return path, value.strip()
