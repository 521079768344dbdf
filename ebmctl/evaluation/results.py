"""Results of `ebmctl evaluate` side by side, where they are alike in all that a figure depends on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ebmctl.errors import EbmctlError
from ebmctl.files import read_json

DEPENDS = (
    "extractor",
    "weights_sha256",
    "resize",
    "n",
    "n_real",
    "data",
    "split",
    "images_sha256",
    "subsets",
    "subset_size",
    "splits",
    "neighbours",
    "temperature",
)


def read_result(path: Path) -> dict[str, Any]:
    """A result that `ebmctl evaluate --json` gave; raises EbmctlError where the file is something else."""
    document = read_json(path)
    metrics = document.get("metrics")
    if not isinstance(metrics, dict) or not all(isinstance(m, dict) and "value" in m for m in metrics.values()):
        raise EbmctlError(f"{path} is not a result of `ebmctl evaluate --json`")
    return document


def compare(first: Path, second: Path) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The figures that two results have both; raises EbmctlError that says in what they differ, if in anything."""
    a, b = (read_result(path)["metrics"] for path in (first, second))
    shared = [name for name in a if name in b]
    if not shared:
        raise EbmctlError(
            f"{first} and {second} have no figure in common: {', '.join(a) or 'none'}; {', '.join(b) or 'none'}"
        )
    for name in shared:
        for key in DEPENDS:
            one, other = a[name].get(key), b[name].get(key)
            if one != other:
                raise EbmctlError(
                    f"not comparable: {name} has {key.replace('_', ' ')} {one} in {first} and {other} in {second}"
                )
    return {name: (a[name], b[name]) for name in shared}
