"""Pickles read as data: opcodes are interpreted, and nothing that a pickle names is ever imported or called.

Names stay strings, calls stay `Call` records. Only calls that checkpoints need are accepted; any other is refused
by name.

`torch.load(weights_only=True)` is no substitute, since it makes the calls of its own long list as soon as a file asks
for them. Up to version 2.9 a crafted file corrupts the memory of the process (CVE-2026-24747); in 2.14 files of 700
bytes still take all memory or never end: tensors of 1e12 elements that are given to OrderedDict or set, bytes that are
encoded over and over, references to references as a key. tests/test_bombs.py has them.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import IO, Any

TENSOR, PARAMETER, STORAGE = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "storage"
_MAPPING = "collections.OrderedDict"
_INERT = {
    "easydict.EasyDict",  # the settings
    "numpy.core.multiarray.scalar",  # scores that NumPy computed, as numbers of its own
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",  # bytes, as protocol 2 writes them
}


@dataclass
class Call:
    """A call that the pickle asks for, and that is never made."""

    function: str
    arguments: Any
    state: Any = None


def interpret(data: bytes | IO[bytes], storages: list[Any] | None = None) -> Any:
    """Run the stack machine of a pickle on plain data only; the description of each storage is added to `storages`.

    Raises ValueError for calls and opcodes that tensors and settings do not need; damaged data may raise anything.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    marks: list[int] = []

    def to_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    for opcode, argument, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
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
            if not all(isinstance(key, (str, int)) for key in pairs[::2]):  # a tuple of references may never be hashed
                raise ValueError("a key is neither a string nor an integer")
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
            stack.append(Call(STORAGE, stack.pop()))
            if storages is not None:
                storages.append(stack[-1].arguments)
        elif opcode.arg is not None and not isinstance(argument, tuple):
            stack.append(argument)  # numbers and strings
        else:
            raise ValueError(f"the pickle uses the opcode {name}, which a checkpoint of tensors does not need")
    raise ValueError("the pickle is truncated")


def _call(function: Any, arguments: Any) -> Any:
    """The record of a call, refused where checkpoints have no need of it."""
    if function == _MAPPING and not arguments:  # filled by SETITEMS; as an argument a long list would be copied often
        return {}
    if function not in {TENSOR, PARAMETER, *_INERT}:
        raise _refused(function)
    return Call(function, arguments)


def _refused(function: Any) -> ValueError:
    name = function if isinstance(function, str) else "the result of another call"
    return ValueError(f"it calls {name[:100]}, which a checkpoint of tensors does not need; nothing was run")


def _items(target: Any) -> dict[Any, Any]:
    """The dictionary that SETITEMS fills: a dictionary, or the contents of an object that is one (EasyDict)."""
    if isinstance(target, Call):
        target.state = state = target.state if isinstance(target.state, dict) else {}
        return state
    return target  # type: ignore[no-any-return]  # anything else fails at once, as a TypeError
