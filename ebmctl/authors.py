"""Checkpoints of the paper's authors: read without running their pickle, and mapped to the project's network.

A PyTorch checkpoint is a zip file of raw tensor storages and one pickle that says how they make up tensors. Unpickling
would run whatever the pickle names. Here its opcodes are read as data instead: names stay strings, calls stay
`Call` records, and only the call that describes a tensor is understood.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.core.config import ResidualConfig

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
}
_MARK = object()
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,  # of torch for impossible shapes, of Python for nesting without end
)
"""What damaged checkpoints end in."""


@dataclass
class Call:
    """A call that the pickle asks for, and that is never made."""

    function: str
    arguments: Any
    state: Any = None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a PyTorch zip checkpoint as plain dictionaries, lists, numbers, strings and tensors.

    Raises ValueError where the file is no such checkpoint, or uses an opcode that tensors and settings do not need.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if index is None:
                raise ValueError(f"{path} is not a PyTorch checkpoint: it holds no data.pkl")
            folder = index.removesuffix("data.pkl")
            tree = _interpret(archive.read(index))
            content = _resolve(tree, archive, folder)
    except _UNREADABLE as error:
        raise ValueError(f"{path} is not a readable PyTorch checkpoint ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no dictionary of tensors and settings")
    return content


def _interpret(data: bytes) -> Any:
    """Run the stack machine of a pickle on plain data only."""
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
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(str(argument).replace(" ", "."))
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
            plain = function == "collections.OrderedDict"
            stack.append(dict(*arguments) if plain else Call(str(function), arguments))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], Call):
                stack[-1].state = state
        elif name == "BINPERSID":
            stack.append(Call("storage", stack.pop()))
        elif opcode.arg is not None and not isinstance(argument, tuple):
            stack.append(argument)  # numbers and strings
        else:
            raise ValueError(f"the pickle uses the opcode {name}, which a checkpoint of tensors does not need")
    raise ValueError("the pickle ends early")


def _items(target: Any) -> dict[Any, Any]:
    """The dictionary that SETITEMS fills: a dictionary, or the contents of an object that is one (EasyDict)."""
    if isinstance(target, Call):
        target.state = state = target.state if isinstance(target.state, dict) else {}
        return state
    return target  # type: ignore[no-any-return]  # anything else fails at once, as a TypeError


def _resolve(value: Any, archive: zipfile.ZipFile, folder: str) -> Any:
    """Replace the records of tensors by tensors, and other objects by their state."""
    if isinstance(value, dict):
        return {k: _resolve(v, archive, folder) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolve(v, archive, folder) for v in value)
    if not isinstance(value, Call):
        return value
    if value.function == "torch._utils._rebuild_tensor_v2":
        return _tensor(value.arguments, archive, folder)
    return _resolve(value.state, archive, folder)


def _tensor(arguments: tuple[Any, ...], archive: zipfile.ZipFile, folder: str) -> Tensor:
    storage, offset, shape, stride = arguments[:4]
    _, kind, key, _, length = storage.arguments
    dtype = _DTYPES[kind.rpartition(".")[2]]
    raw = bytearray(archive.read(f"{folder}data/{key}"))
    if len(raw) != length * dtype.itemsize:
        raise ValueError(f"the tensor storage {key} is truncated")
    flat = torch.frombuffer(raw, dtype=dtype)
    return flat.as_strided(shape, stride, offset).clone()


def residual_state(theirs: Mapping[str, Tensor], conditional: bool = False) -> tuple[ResidualConfig, dict[str, Tensor]]:
    """The authors' `model_state_dict_0` (or its EMA) as the shape and the parameters of a `ResidualEnergy`.

    Their energies come coarsest scale first, ours finest first; their filters of fixed numbers, and the label maps of
    unconditional models, are left out. Raises ValueError for tensors of another kind of network.
    """
    if "conv1.weight" not in theirs or "energy_map.weight" not in theirs:
        raise ValueError("these tensors are not one of the authors' energy networks: no conv1 and energy_map")
    parts = {match[1]: match[2] for name in theirs if (match := re.match(r"(res_?\d)([ab]?)\.", name))}
    stages = sorted(parts)
    letters = ["a", "b"] if parts[stages[0]] else [""]
    width = theirs["conv1.weight"].shape[0]
    outs = [theirs[f"{stage}{letters[-1]}.conv_downsample.weight"].shape[0] for stage in stages]
    attention = 0
    if "self_attn.gamma" in theirs:
        attention = outs.index(theirs["self_attn.value_conv.weight"].shape[0]) + 1
    prefixes = [p for p in ("", "mid_", "small_") if f"{p}conv1.weight" in theirs]
    config = ResidualConfig(
        width=width,
        blocks=(len(letters) - 1,) * len(stages),
        multipliers=tuple(out // width for out in outs),
        attention=attention,
        scales=len(prefixes),
    )
    ours: dict[str, Tensor] = {}
    for scale, prefix in enumerate(prefixes):
        here = {k.removeprefix(prefix): v for k, v in theirs.items() if k.startswith(prefix)}
        used = stages[: len(stages) - scale]
        for their_name, our_name in _layer_names(used, letters, 0 if scale else attention, conditional):
            for kind in ("weight", "bias"):
                ours[f"scales.{scale}.{our_name}.{kind}"] = here[f"{their_name}.{kind}"]
        if not scale and attention:
            index = attention * (len(letters) + 1)
            ours[f"scales.0.layers.{index}.gamma"] = here["self_attn.gamma"]
    return config, ours


def _layer_names(stages: list[str], letters: list[str], attention: int, conditional: bool) -> Iterator[tuple[str, str]]:
    """Pairs of their and our name of each layer of one scale."""
    yield "conv1", "stem"
    index = 0
    inner = {"conv1": "conv1", "bn1": "norm1", "conv2": "conv2", "bn2": "norm2"}
    if conditional:
        inner |= {"latent_map": "label1", "latent_map_2": "label2"}
    for number, stage in enumerate(stages, start=1):
        for letter in letters:
            yield from ((f"{stage}{letter}.{a}", f"layers.{index}.{b}") for a, b in inner.items())
            index += 1
        yield f"{stage}{letters[-1]}.conv_downsample", f"layers.{index}.conv"
        index += 1
        if number == attention:
            yield from ((f"self_attn.{a}_conv", f"layers.{index}.{a}") for a in ("query", "key", "value"))
            index += 1
    yield "energy_map", "head"
