"""Paths as users write them, reading JSON, and writing files so that nothing is ever half-written."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ebmctl.errors import EbmctlError

LARGEST_JSON = 16 << 20  # bytes; a model's or a checkpoint's has a few thousand


def user_path(text: str | Path) -> Path:
    """The path that a user wrote: `~` is the home folder; of an unknown user it stays as it is."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  # which doesn't raise


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` with its suffix, synced and renamed to it at the end, removed on an error."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            sync(temporary)
            temporary.chmod(0o666 & ~_umask())  # mkstemp makes a private file
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, synced and renamed to it at the end (an old one is replaced)."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        try:
            yield temporary
            for item in temporary.iterdir():
                if item.is_file():  # safetensors makes private files
                    item.chmod(0o666 & ~_umask())
                sync(item)
            sync(temporary)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                old = path.with_name(f".{path.name}-old")
                shutil.rmtree(old, ignore_errors=True)
                path.rename(old)
                temporary.rename(path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                temporary.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A folder, made where there is none, for one process at a time; no lock where its file system has none."""
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    with file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def duplicate(source: Path, target: Path) -> None:
    """Hard-link a folder's files, which never change, into `target`; copies them where there are no hard links."""
    with atomic_folder(target) as temporary:
        for item in source.iterdir():
            _link(item, temporary / item.name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def check_writable(path: Path) -> None:
    """Raise EbmctlError where a file could not be written at `path`: checked before the work, not after it."""
    if path.is_dir():
        raise EbmctlError(f"can't write {path}: it is a folder")
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises EbmctlError with one line."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise EbmctlError(f"{path} is too large for a JSON file of ebmctl: {path.stat().st_size:,} bytes")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EbmctlError(f"can't read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise EbmctlError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(document, dict):
        raise EbmctlError(f"{path} does not contain a JSON object")
    return document


def sha256(path: Path) -> str:
    """The checksum of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EbmctlError(f"can't write {path}: {error.strerror or error}") from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
