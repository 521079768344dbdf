"""How much fits the memory of a device: so many images at a time go through a network."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ebmctl.core.energy import Energy
from ebmctl.core.rows import InRows, bytes_each, rows_that_fit
from ebmctl.errors import UsageError

FEW = 16  # images that are not worth measuring
UNKNOWN = 4 << 30  # where a system does not say how much it has
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")


def in_rows(energy: Energy, count: int, shape: tuple[int, ...], device: torch.device) -> Energy:
    """The energy of `count` images (C, H, W), so many at a time as fit the memory of a device."""
    rows = rows_of(energy, count, shape, device)
    return energy if count <= rows else InRows(energy, rows)


def rows_of(energy: Energy, count: int, shape: tuple[int, ...], device: torch.device) -> int:
    """How many of `count` images (C, H, W) at a time, with gradients, fit the memory of a device."""
    return FEW if count <= FEW else rows_that_fit(free_bytes(device), bytes_each(energy, shape, device))


def check_fits(what: str, size: int, free: int, instead: str) -> None:
    """Raise UsageError where something of so many bytes is larger than the free memory."""
    if size > free:
        raise UsageError(f"{what} would take {size / 1e9:,.0f} GB of memory, {free / 1e9:,.1f} GB are free; {instead}")


def free_bytes(device: torch.device) -> int:
    """The memory of a device that can be had now."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch's own
        return torch.cuda.mem_get_info(device)[0] + unused
    return min(_of_machine(), _of_container())


def _of_machine() -> int:
    try:
        fields = dict(line.split(":") for line in MEMINFO.read_text(encoding="ascii").splitlines())
        return 1024 * int(fields["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):  # not Linux
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _of_container() -> int:
    """What is left of a container's own limit (version 2 of control groups); files that are cached make way."""
    try:
        limit, used = (int((CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(limit - used + int(stat["inactive_file"]), 0)
    except (OSError, KeyError, ValueError):  # without a limit it says "max"
        return 1 << 62
