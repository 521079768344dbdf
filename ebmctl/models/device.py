"""The device that a command computes on."""

from __future__ import annotations

import torch

from ebmctl.errors import EbmctlError, UsageError

KNOWN = ("cpu", "cuda", "mps")


def best_device() -> torch.device:
    """A CUDA GPU where there is one, else Apple's, else the CPU."""
    return torch.device(next((name for name in ("cuda", "mps") if _available(name)), "cpu"))


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" is the best one.

    Raises UsageError for an unknown name, EbmctlError for a device that this machine does not have.
    """
    if name == "auto":
        return best_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:  # whose message is a page long
        raise UsageError(f"the device must be auto, {', '.join(KNOWN[:-1])} or {KNOWN[-1]}, not '{name}'") from error
    if not _available(device.type):
        raise EbmctlError(f"--device {device}: not available on this machine; try --device cpu")
    return device


def described(device: torch.device) -> str:
    """A device as one would call it: a GPU by its name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": "the CPU", "mps": "Apple's GPU"}.get(device.type, str(device))


def _available(kind: str) -> bool:
    if kind == "mps":
        return torch.backends.mps.is_available()
    return kind != "cuda" or torch.cuda.is_available()
