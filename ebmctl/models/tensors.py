"""Tensors in files: safetensors, nothing pickled."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ebmctl.errors import EbmctlError

LARGEST_HEADER = 4 << 20  # of a safetensors file; the largest network's has less than 100 kB


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises EbmctlError with one line."""
    with opened(path):
        return load_file(path)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open safetensors file whose header is whole and of a size that makes sense."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > LARGEST_HEADER:
            raise EbmctlError(f"can't read {path}: its header claims to have {length:,} bytes")
        with safe_open(path, framework="pt") as found:
            yield found
    except (OSError, SafetensorError) as error:
        raise EbmctlError(f"can't read {path}: {error}") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; raises EbmctlError with one line."""
    try:
        save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:  # a full disk among others
        raise EbmctlError(f"can't write {path.parent.parent}: {error}") from error
