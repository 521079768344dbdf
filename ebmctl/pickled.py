"""PyTorch checkpoints read without running their pickle.

A checkpoint is raw tensor storages and a pickle that says how they make up tensors: in a zip file, or one after the
other as PyTorch wrote them up to version 1.5. Unpickling would run whatever the pickle names. Here its opcodes are read
as data instead: names stay strings, calls stay `Call` records that are never made. Only calls that checkpoints need are
let pass, and only the one that describes a tensor is understood; any other is refused by its name.
"""

from __future__ import annotations

import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

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
_MARK = object()
_TENSOR, _PARAMETER, _MAPPING = (
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "collections.OrderedDict",
)
_INERT = {
    "easydict.EasyDict",  # the settings
    "numpy.core.multiarray.scalar",  # scores that NumPy computed, as numbers of its own
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",  # bytes, as protocol 2 writes them
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
    RuntimeError,  # of torch for impossible shapes, of Python for nesting without end
)
"""What damaged checkpoints end in."""


@dataclass
class Call:
    """A call that the pickle asks for, and that is never made."""

    function: str
    arguments: Any
    state: Any = None


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
                raise ValueError("it holds no dictionary of tensors and settings")
            wanted = {key: value for key, value in tree.items() if key not in skip}
            content: dict[str, Any] = _Resolver(storage, path.stat().st_size).resolve(wanted)
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a PyTorch checkpoint that can be read ({error})") from error
    return content


def _open_zip(file: IO[bytes]) -> tuple[Any, Storage]:
    archive = zipfile.ZipFile(file)
    index = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
    if index is None:
        raise ValueError("it holds no data.pkl")
    if archive.getinfo(index).file_size > _PICKLE_LIMIT:
        raise ValueError("its pickle is too large for one of tensors and settings")
    folder = index.removesuffix("data.pkl")

    def storage(key: str, size: int) -> bytearray:
        info = archive.getinfo(f"{folder}data/{key}")
        if info.file_size != size or info.compress_size != size:  # never compressed: a small file stays small
            raise ValueError(f"the tensor storage {key} is truncated")
        return bytearray(archive.read(info))

    return _interpret(archive.read(index)), storage


def _open_legacy(file: IO[bytes]) -> tuple[Any, Storage]:
    """A magic number, the protocol, the machine, the content, the storages' keys; then each one's length and bytes."""
    file.seek(0)
    if file.read(1) != b"\x80":
        raise ValueError("it is neither a zip file nor a pickle")
    file.seek(0)
    if _interpret(file) != _LEGACY_MAGIC:
        raise ValueError("it is a pickle of something else")
    sizes: dict[str, int] = {}
    _interpret(file), _interpret(file)
    tree, keys = _interpret(file, sizes), _interpret(file)
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


def _interpret(data: bytes | IO[bytes], sizes: dict[str, int] | None = None) -> Any:
    """Run the stack machine of a pickle on plain data only; notes the item size of each storage in `sizes`."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def to_mark() -> list[Any]:
        at = max(i for i, item in enumerate(stack) if item is _MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(str(argument).replace(" ", "."))
        elif name == "STACK_GLOBAL":
            stack[-2:] = [f"{stack[-2]}.{stack[-1]}"]
        elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name == "TUPLE":
            stack.append(tuple(to_mark()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name in ("SETITEM", "SETITEMS"):
            pairs = to_mark() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            _items(stack[-1]).update(zip(pairs[::2], pairs[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            items = to_mark() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(items)
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(_call(function, arguments))
        elif name == "INST":
            raise _refused(str(argument).replace(" ", "."))
        elif name == "OBJ":
            raise _refused(to_mark()[0])
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Call):
                stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Call("storage", stack.pop()))
            if sizes is not None:
                _, kind, key = stack[-1].arguments[:3]
                sizes[key] = _dtype(kind).itemsize
        elif opcode.arg is not None and not isinstance(argument, tuple):
            stack.append(argument)  # numbers and strings
        else:
            raise ValueError(f"the pickle uses the opcode {name}, which a checkpoint of tensors does not need")
    raise ValueError("the pickle ends early")


def _call(function: Any, arguments: Any) -> Any:
    """The record of a call, refused where checkpoints have no need of it."""
    if function == _MAPPING:
        return dict(*arguments)
    if function not in {_TENSOR, _PARAMETER, *_INERT}:
        raise _refused(function)
    return Call(function, arguments)


def _refused(function: Any) -> ValueError:
    name = function if isinstance(function, str) else "what another call gave"
    return ValueError(f"it calls {name[:100]}, which a checkpoint of tensors does not need; nothing was run")


def _items(target: Any) -> dict[Any, Any]:
    """The dictionary that SETITEMS fills: a dictionary, or the contents of an object that is one (EasyDict)."""
    if isinstance(target, Call):
        target.state = state = target.state if isinstance(target.state, dict) else {}
        return state
    return target  # type: ignore[no-any-return]  # anything else fails at once, as a TypeError


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
            raise ValueError("it holds more values than a checkpoint")
        if isinstance(value, dict):
            return {k: self.resolve(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.resolve(v) for v in value)
        if not isinstance(value, Call):
            return value
        if value.function == _TENSOR:
            return self.tensor(value.arguments)
        if value.function == _PARAMETER:
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
