"""Checkpoints of a few hundred bytes that would take all memory, or never end, in a reader that makes their calls."""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import torch

MAGIC = 0x1950A86A20F9469CFC6C
START, MANY = b"\x80\x02", b"\x8a\x08" + struct.pack("<q", 10**12)
ENCODE, DICT = b"c_codecs\nencode\n", b"ccollections\nOrderedDict\n"
NESTED = b"(K\x01\x85q\0" + b"h\0h\0\x86q\0" * 40  # memo 0: a tuple of twice a tuple of twice ...; a mark is open


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def entry(value: bytes) -> bytes:
    """A pickle of {"a": value}."""
    return START + b"}" + text("a") + value + b"s."


def storage(count: bytes, legacy: bool = False) -> bytes:
    start = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    return start + count + (b"N" if legacy else b"") + b"tQ"


def tensor(stored: bytes, size: bytes, stride: bytes) -> bytes:
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + b"K\0" + size + stride + b"\x89" + DICT + b")RtR"


def archive(data: bytes, compression: int = zipfile.ZIP_STORED, stored: bytes = bytes(16)) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        for name, content in {"version": b"3\n", "data.pkl": data, "data/0": stored}.items():
            file.writestr(f"archive/{name}", content)
    return stream.getvalue()


def legacy(data: bytes, keys: list[str]) -> bytes:
    before = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, 1001, {}))
    return before + data + pickle.dumps(keys, protocol=2)


def encoded_often() -> bytes:
    value = text("a") + text("utf-8") + b"\x86R"
    for _ in range(60):
        value += text("hex") + b"\x86R"
    return ENCODE * 61 + value


EXPANDED = tensor(storage(b"K\x04"), MANY + b"K\x02\x86", b"K\0K\0\x86")
FOUR = tensor(storage(b"K\x04"), b"K\x04\x85", b"K\x01\x85")
LARGE = tensor(storage(MANY), MANY + b"\x85", b"K\x01\x85")
MANY_PAIRS = b"]q\0(" + b"".join(text(f"{i:05}") + b"K\1\x86" for i in range(50_000)) + b"e"
BOMBS = {
    "an ordered dictionary of an expanded tensor": (archive(entry(DICT + EXPANDED + b"\x85R")), "OrderedDict"),
    "a set of an expanded tensor": (archive(entry(b"cbuiltins\nset\n" + EXPANDED + b"\x85R")), "builtins.set"),
    "a counter": (archive(entry(b"ccollections\nCounter\n" + EXPANDED + b"\x85R")), "collections.Counter"),
    "a long array of bytes": (archive(entry(b"cbuiltins\nbytearray\n" + MANY + b"\x85R")), "builtins.bytearray"),
    "a tensor type": (archive(entry(b"ctorch\nFloatTensor\n" + MANY + b"\x85R")), "torch.FloatTensor"),
    "a tensor on no device": (
        archive(entry(b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(Nt" + b"R")),
        "_rebuild_meta_tensor_no_storage",
    ),
    "bytes encoded over and over": (archive(entry(encoded_often())), None),  # read, as nothing
    "references to references as a key": (archive(START + NESTED + b"}h\0K\1st."), "a key is neither"),
    "references to references": (archive(entry(NESTED + b"h\0t")), "more values"),
    "a dictionary copied often": (
        archive(START + b"(" + MANY_PAIRS + (DICT + b"h\0\x85R") * 50_000 + b"t."),
        "OrderedDict",
    ),
    "marks without end": (archive(START + b"(" + b"K\1" * 500_000 + b"(t" * 500_000 + b"t."), "no dictionary"),
    "an expanded tensor": (archive(entry(EXPANDED)), "larger than the file"),
    "a storage longer than its bytes": (
        archive(entry(tensor(storage(b"K\x08"), b"K\x08\x85", b"K\1\x85"))),
        "truncated",
    ),
    "a storage longer than the file": (archive(entry(LARGE)), "larger than the file"),
    "a compressed pickle": (
        archive(entry(FOUR) + bytes(65 << 20), zipfile.ZIP_DEFLATED),
        "its pickle is too large",
    ),
    "a compressed storage": (archive(entry(FOUR), zipfile.ZIP_DEFLATED), "truncated"),
    "an old storage that is nowhere": (
        legacy(entry(tensor(storage(b"K\x04", True), b"K\x04\x85", b"K\1\x85")), []),
        "is not a readable PyTorch checkpoint ('0')",
    ),
    "an old storage that is cut": (
        legacy(entry(tensor(storage(b"K\x04", True), b"K\x04\x85", b"K\1\x85")), ["0"])
        + struct.pack("<q", 4)
        + bytes(8),
        "truncated",
    ),
    "an old storage longer than the file": (
        legacy(entry(tensor(storage(MANY, True), MANY + b"\x85", b"K\1\x85")), []),
        "",
    ),
    "an old text that is longer than any file": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62), "(MemoryError)"),
    "another magic number": (
        b"".join(pickle.dumps(part, protocol=2) for part in (1, 1001, {}, {}, [])),
        "another kind of pickle",
    ),
}


def scripted() -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), stream)
    return stream.getvalue()


def test_all_in_bounded_time_and_memory(tmp_path):
    """In one process whose memory is watched, and which is given up after a while."""
    for number, (data, _) in enumerate([*BOMBS.values(), (scripted(), "")]):
        (tmp_path / f"{number:02}.pth").write_bytes(data)
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from ebmctl.authors.torch_file import read_checkpoint

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path({str(tmp_path)!r}).iterdir()):
    try:
        print("read", read_checkpoint(path))
    except ValueError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    *lines, megabytes = done.stdout.splitlines()
    assert len(lines) == len(BOMBS) + 1
    for line, (name, (_, says)) in zip(lines, BOMBS.items(), strict=False):
        assert line == "read {'a': None}" if says is None else f"{tmp_path}" in line and says in line, (name, line)
    assert "__torch__" in lines[-1]
    assert float(megabytes) < 400  # a million numbers, and what refers to them
