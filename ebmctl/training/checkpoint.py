"""Checkpoints of a run: all that the next step depends on, tensors in safetensors and the rest in JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ebmctl.errors import EbmctlError
from ebmctl.files import atomic_folder, read_json, sha256
from ebmctl.models.tensors import read_tensors, write_tensors


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Write a training checkpoint with its checksum, whole or not at all."""
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "state.safetensors", tensors)
        whole = {**document, "sha256": _checksum(temporary, document)}
        (temporary / "state.json").write_text(json.dumps(whole) + "\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a training checkpoint; raises EbmctlError with one line, also where it was altered or cut short."""
    document = read_json(folder / "state.json")
    expected = document.pop("sha256", None)
    try:
        found = _checksum(folder, document)
    except OSError as error:
        raise EbmctlError(f"can't read {folder / 'state.safetensors'}: {error.strerror}") from error
    if found != expected:
        raise EbmctlError(f"the checkpoint {folder} was altered or truncated: its checksum is wrong")
    return read_tensors(folder / "state.safetensors"), document


def _checksum(folder: Path, document: Mapping[str, Any]) -> str:
    """One checksum of the tensors' file and of the document."""
    text = json.dumps(document, sort_keys=True) + sha256(folder / "state.safetensors")
    return hashlib.sha256(text.encode()).hexdigest()
