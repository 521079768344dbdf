"""Results that `ebmctl ood`, `evaluate` and `compose --check` gave as JSON, read for a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ebmctl.errors import EbmctlError
from ebmctl.evaluation.tables import (
    OOD_NOTE,
    Table,
    composition_note,
    composition_table,
    outlier_table,
    quality_table,
)
from ebmctl.files import read_json
from ebmctl.models.card import public_reference

Kind = Literal["quality", "outliers", "composition"]
KINDS: Mapping[str, Kind] = {"results": "outliers", "attributes": "composition", "metrics": "quality"}


@dataclass(frozen=True)
class Result:
    """A table with its heading, what it is of, and the command that gave it, where that is known."""

    kind: Kind
    title: str
    table: Table
    note: str
    command: str | None = None


def read_results(paths: Iterable[Path], checksum: str | None) -> list[Result]:
    """The results in files; raises EbmctlError for one of other weights than those, or that is no result."""
    return [_read(path, checksum) for path in paths]


def quality(metrics: Mapping[str, Mapping[str, Any]], title: str, command: str | None = None) -> Result:
    """The figures of `ebmctl evaluate`."""
    public = {
        name: {**values, "data": public_reference(str(values["data"]))} if "data" in values else values
        for name, values in metrics.items()
    }
    return Result("quality", title, quality_table(public), "", command)


def _read(path: Path, checksum: str | None) -> Result:
    document = read_json(path)
    key = next((key for key in KINDS if key in document), None)
    if key is None:
        raise EbmctlError(f"{path} is not the JSON of `ebmctl ood`, `evaluate` or `compose --check`")
    try:
        of = document["models"].values() if key == "attributes" else [document["model_sha256"]]
        if checksum not in of:
            raise EbmctlError(f"{path} has the results of a model with other weights")
        command = document.get("command")
        given = f"{command} > {path.name}" if isinstance(command, str) and "--json" in command else None
        return _MAKE[KINDS[key]](document, given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EbmctlError(f"{path} is not the whole JSON of a result: {error!r}") from error


def _quality(document: Mapping[str, Any], command: str | None) -> Result:
    return quality(document["metrics"], f"{int(document['n']):,} images, seed {document['seed']}", command)


def _outliers(document: Mapping[str, Any], command: str | None) -> Result:
    rows = [{**row, "out": public_reference(str(row["out"]))} for row in document["results"]]
    inside = public_reference(str(document["in"]))
    table = outlier_table({**document, "results": rows}, inside)
    return Result("outliers", f"{inside} against others, by {document['score']}", table, OOD_NOTE, command)


def _composition(document: Mapping[str, Any], command: str | None) -> Result:
    note = f"{composition_note(document)}; seed {document['seed']}."
    return Result("composition", str(document["expression"]), composition_table(document), note, command)


_MAKE = {"quality": _quality, "outliers": _outliers, "composition": _composition}
