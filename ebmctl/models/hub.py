"""Model folders in repositories of the Hugging Face Hub: fetched into its cache and checked, and pushed.

`huggingface_hub` is imported only when it is needed. The endpoint and the cache are read from HF_ENDPOINT and
HF_HUB_CACHE each time (it reads them itself only once, when it is imported).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ebmctl.errors import EbmctlError, UsageError
from ebmctl.files import sha256
from ebmctl.models.hub_errors import explained

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
SENT = (".safetensors", ".json", ".md")
"""The endings of all files that are ever sent."""
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
COMMIT = re.compile(r"[0-9a-f]{40}")
_HARMLESS = {".gitattributes", ".gitignore", "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt"}
_LARGEST_CONFIG = 1 << 20  # bytes


@dataclass(frozen=True)
class Pushed:
    """A commit: its full revision, where it can be seen, and whether it is new (it is not where nothing differs)."""

    revision: str
    url: str
    new: bool


def parse(reference: str) -> tuple[str, str | None] | None:
    """`user/repo[@revision]` as repository and revision; None for anything else."""
    repo, at, revision = reference.partition("@")
    if not REPO.fullmatch(repo) or (at and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./-]*", revision)):
        return None
    return repo, revision or None


def fetch(repo: str, revision: str | None = None, checksum: str | None = None) -> Path:
    """The folder of a repository's model in the Hub's cache, downloaded where it is not there, and checked.

    A branch or tag, or none (main), is pinned to the commit that it names now; without a connection to the one that it
    named last. `checksum` is the sha256 that the weights must have. Raises EbmctlError with one line.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    _quiet()
    name = f"{repo}@{revision}" if revision else repo
    with explained(name):
        folder = _download(repo, CONFIG, revision or "main").parent
        if not is_ours(folder / CONFIG):
            raise EbmctlError(f"{name} is not an ebmctl model: its {CONFIG} is of another kind")
        _download(repo, WEIGHTS, folder.name)
        with contextlib.suppress(EntryNotFoundError, LocalEntryNotFoundError):
            _download(repo, CARD, folder.name)  # not needed to use it
    check_cached(folder, name, checksum)
    return folder


def cached(repo: str, revision: str) -> Path | None:
    """The folder of a repository's model at a full revision where the cache has all of it."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(repo, name, cache_dir=_cache(), revision=revision) for name in (CONFIG, WEIGHTS)]
    return Path(found[0]).parent if isinstance(found[0], str) and isinstance(found[1], str) else None


def check_cached(folder: Path, name: str, checksum: str | None) -> None:
    """Raise EbmctlError if cached weights are corrupted, and remove them, or if their checksum is not the expected one.

    The cache links them to a file named by the SHA-256 that the Hub gave, except on a file system without links.
    """
    path = folder / WEIGHTS
    blob, found = path.resolve(), sha256(path)
    if re.fullmatch(r"[0-9a-f]{64}", blob.name) and found != blob.name:
        blob.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise EbmctlError(
            f"{path.name} of {name} was corrupted in transit or in the cache; it has been removed, try again"
        )
    if checksum and found != checksum:
        raise EbmctlError(f"the weights of {name} do not have the expected checksum; they are not used")


def push(files: Mapping[str, Path], repo: str, private: bool) -> Pushed:
    """Send files to a repository, made where there is none, as one commit: all of them or none.

    What an earlier, broken push has sent already is not sent again. Raises EbmctlError with one line.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import RepositoryNotFoundError

    _quiet()
    if not REPO.fullmatch(repo):
        raise UsageError(f"'{repo}' is not a repository name; give USER/REPO")
    if stray := [name for name in files if not name.endswith(SENT) or "/" in name]:
        raise EbmctlError(f"{', '.join(stray)}: only safetensors, JSON and Markdown files are uploaded")
    if not get_token():
        raise EbmctlError("not logged in to the Hub: run `hf auth login`, or set HF_TOKEN to a token with write access")
    if _offline():
        raise EbmctlError(f"{repo} can't be pushed in offline mode (HF_HUB_OFFLINE)")
    api = HfApi(endpoint=_endpoint(), library_name="ebmctl")
    with explained(repo):
        before = None
        try:
            info = api.model_info(repo)
            _check_place(info, repo, private)
            before = info.sha
        except RepositoryNotFoundError:
            api.create_repo(repo, private=private or None, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
        commit = api.create_commit(repo, operations=operations, commit_message="Model pushed by ebmctl")
        return Pushed(str(commit.oid), f"{api.endpoint}/{repo}/tree/{commit.oid}", commit.oid != before)


def is_ours(path: Path) -> bool:
    """Whether a config.json is one of ebmctl's model folders (which it may still be in a wrong way)."""
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            return False
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"format", "architecture", "recipe"} <= set(document)


def _check_place(info: Any, repo: str, private: bool) -> None:
    """Raise EbmctlError where a repository holds something else, or is open and was to be private."""
    if private and info.private is False:
        raise EbmctlError(f"{repo} exists and is public; make it private on its page, or choose another name")
    names = {item.rfilename for item in info.siblings or ()}
    if CONFIG in names and is_ours(_download(repo, CONFIG, info.sha)):
        return
    if others := sorted(names - _HARMLESS):
        shown = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        raise EbmctlError(f"{repo} contains something else ({shown}) and was left untouched; choose another name")


def _download(repo: str, name: str, revision: str) -> Path:
    from huggingface_hub import hf_hub_download

    path = hf_hub_download(
        repo,
        name,
        revision=revision,
        cache_dir=_cache(),
        endpoint=_endpoint(),
        local_files_only=_offline(),
        library_name="ebmctl",
    )
    return Path(path)


def _quiet() -> None:
    """Progress bars on a terminal only, and none of the client's own messages: errors are reported in one line."""
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    enable_progress_bars() if sys.stderr.isatty() else disable_progress_bars()


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _cache() -> str | None:
    return os.environ.get("HF_HUB_CACHE") or None


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
