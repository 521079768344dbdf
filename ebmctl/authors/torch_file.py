"""PyTorch checkpoints read without running their pickle.

A checkpoint is raw tensor storages and a pickle that says how they make up tensors: in a zip file, or one after the
other as PyTorch wrote them up to version 1.5. Unpickling would run whatever the pickle names. Here its opcodes are read
as data instead (`pickled`), and only the call that describes a tensor is understood.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from ebmctl.authors.pickled import PARAMETER, TENSOR, Call, interpret

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_PICKLE_LIMIT = 64 << 20  # bytes; the largest networks' pickles have less than one megabyte
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    NotImplementedError,
    MemoryError,  # a string longer than any file
    RuntimeError,  # of torch for impossible shapes, of Python for nesting without end
)
"""What reading a damaged checkpoint may raise."""


Storage = Callable[[str, int], bytearray]
"""The bytes of a storage by its key, of the size that the pickle gives."""


def read_checkpoint(path: Path, skip: Collection[str] = ()) -> dict[str, Any]:
    """Read a PyTorch checkpoint as plain dictionaries, lists, numbers, strings and tensors.

    Leaves the entries named in `skip` out. Raises ValueError where the file is no such checkpoint, calls anything, or
    uses an opcode that tensors and settings do not need.
    """
    try:
        with path.open("rb") as file:
            tree, storage = _open_zip(file) if zipfile.is_zipfile(file) else _open_legacy(file)
            if not isinstance(tree, dict):
                raise ValueError("it contains no dictionary of tensors and settings")
            wanted = {key: value for key, value in tree.items() if key not in skip}
            content: dict[str, Any] = _Resolver(storage, path.stat().st_size).resolve(wanted)
    except _UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{path} is not a readable PyTorch checkpoint ({reason})") from error
    return content


def _open_zip(file: IO[bytes]) -> tuple[Any, Storage]:
    archive = zipfile.ZipFile(file)
    index = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
    if index is None:
        raise ValueError("it contains no data.pkl")
    if archive.getinfo(index).file_size > _PICKLE_LIMIT:
        raise ValueError("its pickle is too large for tensors and settings")
    folder = index.removesuffix("data.pkl")

    def storage(key: str, size: int) -> bytearray:
        info = archive.getinfo(f"{folder}data/{key}")
        if info.file_size != size or info.compress_size != size:  # never compressed: a small file stays small
            raise ValueError(f"the tensor storage {key} is truncated")
        return bytearray(archive.read(info))

    return interpret(archive.read(index)), storage


def _open_legacy(file: IO[bytes]) -> tuple[Any, Storage]:
    """A magic number, the protocol, the machine, the content, the storages' keys; then each one's length and bytes."""
    file.seek(0)
    if file.read(1) != b"\x80":
        raise ValueError("it is neither a zip file nor a pickle")
    file.seek(0)
    if interpret(file) != _LEGACY_MAGIC:
        raise ValueError("it is another kind of pickle")
    stored: list[Any] = []
    interpret(file), interpret(file)
    tree, keys = interpret(file, stored), interpret(file)
    sizes = {key: _dtype(kind).itemsize for _, kind, key, *_ in stored}
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        itemsize, at = sizes[key], file.tell()
        places[key] = at, length * itemsize
        file.seek(length * itemsize, 1)

    def storage(key: str, size: int) -> bytearray:
        at, found = places[key]
        file.seek(at)
        raw = bytearray(file.read(size)) if found == size else bytearray()
        if len(raw) != size:
            raise ValueError(f"the tensor storage {key} is truncated")
        return raw

    return tree, storage


def _dtype(kind: str) -> torch.dtype:
    return _DTYPES[kind.rpartition(".")[2]]


class _Resolver:
    """Replaces the records of tensors by tensors, and other objects by their state, in memory that the file bounds."""

    def __init__(self, storage: Storage, file_size: int) -> None:
        self.storage, self.left = storage, 4 * file_size  # several tensors may share a storage, not very many
        self.values = 1_000_000  # references to references can mean more values than there is memory

    def resolve(self, value: Any) -> Any:
        self.values -= 1
        if self.values < 0:
            raise ValueError("it contains more values than a checkpoint")
        if isinstance(value, dict):
            return {k: self.resolve(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(v) for v in value)
        if not isinstance(value, Call):
            return value
        if value.function == TENSOR:
            return self.tensor(value.arguments)
        if value.function == PARAMETER:
            return self.resolve(value.arguments[0])
        return self.resolve(value.state)

    def tensor(self, arguments: tuple[Any, ...]) -> Tensor:
        stored, offset, shape, stride = arguments[:4]
        _, kind, key, _, length = stored.arguments[:5]
        dtype, count = _dtype(kind), 1
        for size in shape:
            count *= size
        self.left -= length * dtype.itemsize
        if not 0 <= count <= length or self.left < 0:
            raise ValueError("its tensors are larger than the file")
        raw = self.storage(key, length * dtype.itemsize)
        if not count:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(raw, dtype=dtype).as_strided(shape, stride, offset).clone()
