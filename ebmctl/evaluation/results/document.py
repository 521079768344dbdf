"""From JSON documents to results, and what all results are checked for."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Collection, Mapping, Sequence
from typing import Any, overload

from ebmctl.config.conversion import convert
from ebmctl.errors import EbmctlError

Scalar = bool | int | float | str | None
Fingerprint = Mapping[str, Scalar]  # see `EvaluationImages`


def take(document: Mapping[str, Any], key: str, kind: Any, where: str = "") -> Any:
    """A document's value as the type `kind`; one that is not there is None.

    Raises UsageError that names the key, with `where` before it.
    """
    return convert(document.get(key), kind, where + key)


def fields_of(cls: type, document: Mapping[str, Any], but: Collection[str], where: str = "") -> dict[str, Any]:
    """What a document has for the fields of the dataclass `cls`, all but some, by their own names; see `take`."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.name not in but]
    return {name: take(document, name, hints[name], where) for name in names}


def check_finite(value: Any, path: str = "") -> None:
    """Raise EbmctlError that names the first number in a result that is not finite: JSON knows no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        raise EbmctlError(f"{path} is NaN or infinite")
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, part in value.items():
            check_finite(part, f"{path}.{key}".removeprefix("."))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for part in value:
            check_finite(part, path)


@overload
def shown(name: str) -> str: ...


@overload
def shown(name: str | None) -> str | None: ...


def shown(name: str | None) -> str | None:
    """What a model or a dataset is called where others see it."""
    from ebmctl.models.card import public_reference  # which imports torch

    return None if name is None else public_reference(name)
