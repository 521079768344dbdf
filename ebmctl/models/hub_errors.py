"""What can go wrong with the Hub, in one line each."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Any

from ebmctl.errors import EbmctlError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except (EbmctlError, KeyboardInterrupt):
        raise
    except (_transport_error(), errors.HFValidationError, OSError, RuntimeError, ValueError) as error:
        raise EbmctlError(_line(error, name)) from error


def _transport_error() -> type[Exception]:
    """What the HTTP client raises for a lost connection; which client it is depends on huggingface_hub's version."""
    from huggingface_hub import errors

    found: type[Exception] = getattr(errors, "HTTPError", OSError)
    return found


def _line(error: BaseException, name: str) -> str:
    """One line about an error, or about the first of its causes that says more."""
    from huggingface_hub import errors

    if isinstance(error, errors.HFValidationError):
        return f"{name}: {error}"
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated, and this token has no access: request it on the repository's page"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"the Hub has no repository {name}, or it is private and the token (HF_TOKEN, or `hf auth login`) "
            "is missing, invalid or without access to it"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name}: the repository has no such revision"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if error.__cause__ is not None:
            return _line(error.__cause__, name)
        return f"{name} is not in the cache, or only in part, and offline mode (HF_HUB_OFFLINE) prevents downloading it"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{name} is not an ebmctl model: it has no config.json or no model.safetensors"
    if isinstance(error, errors.HfHubHTTPError):
        return _status_line(error, name)
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"can't write {name} into the Hub's cache: {error.strerror}"
    cause = error.__cause__ or error.__context__
    if isinstance(error, RuntimeError) and cause is not None:
        return _line(cause, name)
    if isinstance(error, ValueError):
        return f"{name}: the Hub sent an invalid response ({_first(error)})"
    return f"the connection to the Hub failed for {name} ({_first(error)}); nothing is lost, try again"


def _status_line(error: Any, name: str) -> str:
    status = error.response.status_code
    if status == 401:
        return f"the Hub refused the token for {name} (401): log in again with `hf auth login`, or set HF_TOKEN"
    if status == 403:
        return (
            f"the token has no write access to {name} (403): it needs that, and the user or organization must be yours"
        )
    if status >= 500:
        return f"the Hub failed ({status}) for {name}; nothing is lost, try again later"
    return f"the Hub refused {name} ({status}): {error.server_message or _first(error)}"


def _first(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
