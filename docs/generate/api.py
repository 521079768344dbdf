"""What a Python program uses: signatures and docstrings."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any, Generic

from docs.generate import markdown

WIDTH = 92  # what a page shows of a line of code


class Text(str):
    """A text that `inspect` shows without quotes."""

    __repr__ = str.__str__


def described(wanted: list[str]) -> str:
    """A section for each line: the dotted name of a function or a class, and after a colon which of its members."""
    made = []
    for line in filter(None, map(str.strip, wanted)):
        path, _, names = line.partition(":")
        module, _, name = path.rpartition(".")
        made.append(section(path, getattr(importlib.import_module(module), name), names.split()))
    return "\n\n".join(made)


def section(path: str, thing: Any, names: list[str]) -> str:
    """A function, or a class with its members: those named, or else all that are public and its own."""
    name = path.rpartition(".")[2]
    members = list(_members(thing, names)) if inspect.isclass(thing) else []
    return "\n\n".join(
        [
            f"### `{path}`",
            f"```py\n{head(name, thing)}\n```",
            inspect.getdoc(thing) or "",
            *(["\n".join(map(markdown.item, members))] if members else []),
        ]
    )


def head(name: str, thing: Any) -> str:
    """The first line of a function's or a class's definition; several where it is long."""
    if inspect.isclass(thing) and not {"__init__", "__new__"} & {*vars(thing)} - _protocol(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base not in (object, Generic))
        return f"class {name}({bases})" if bases else f"class {name}"
    start = f"{'class' if inspect.isclass(thing) else 'def'} {name}"
    found = signature(thing)
    line = start + str(found)
    if len(line) <= WIDTH:
        return line
    inside, end = [f"    {part}," for part in _parameters(found)], str(found).rpartition(")")[2]
    return "\n".join([f"{start}(", *inside, f"){end}"])


def _protocol(cls: type) -> set[str]:
    """What is only there because a class is a protocol."""
    return {"__init__"} if getattr(cls, "_is_protocol", False) else set()


def _parameters(found: inspect.Signature) -> Iterator[str]:
    """The parameters as a definition has them, one by one."""
    named = False
    for each in found.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not named:
            named = True
            yield "*"
        yield str(each)


def signature(thing: Callable[..., Any]) -> inspect.Signature:
    """A signature that is shown as it is written."""
    found = inspect.signature(thing)
    parameters = [
        each.replace(annotation=_shown(each.annotation), default=_default(each.default))
        for each in found.parameters.values()
        if each.name != "self"
    ]
    result = inspect.Signature.empty if inspect.isclass(thing) else _shown(found.return_annotation)
    return inspect.Signature(parameters, return_annotation=result)


def _shown(annotation: Any) -> Any:
    if annotation is inspect.Signature.empty:
        return annotation
    return Text(getattr(annotation, "__forward_arg__", None) or getattr(annotation, "__name__", None) or annotation)


def _default(value: Any) -> Any:
    if isinstance(value, str):
        return Text(json.dumps(value))
    named = value is not inspect.Parameter.empty and (inspect.isfunction(value) or inspect.isclass(value))
    return Text(value.__name__) if named else value


def _members(cls: type, names: list[str]) -> Iterator[str]:
    """What a class has, an item each: attributes, then properties and methods with their docstrings."""
    if not dataclasses.is_dataclass(cls) and not issubclass(cls, tuple):
        for name, kind in inspect.get_annotations(cls).items():
            yield f"`{name}: {_shown(kind)}`"
    for name, value in vars(cls).items():
        text = " ".join((inspect.getdoc(value) or "").split())
        if name not in names if names else not (text and _public(name)):
            continue
        text = text and f": {text}"
        if isinstance(value, property):
            yield f"`{name}: {_shown(signature(value.fget).return_annotation)}`{text}"  # type: ignore[arg-type]
        elif inspect.isfunction(value):
            yield f"`{name}{signature(value)}`{text}"


def _public(name: str) -> bool:
    return not name.startswith("_") or name in ("__call__", "__getitem__")
