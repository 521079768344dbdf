"""The device and the processes of a run, and their communication."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from safetensors.torch import load, save
from torch import Tensor

from ebmctl.errors import EbmctlError
from ebmctl.models.device import device_of


def make_accelerator(device: str, processes: int = 1) -> Accelerator:
    """The device and the processes to train with; raises EbmctlError if they are not available."""
    chosen = device_of(device)
    check_gpus(chosen, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # `processes` may be on several machines
    accelerator = Accelerator(cpu=chosen.type == "cpu")
    if accelerator.num_processes < processes:
        raise EbmctlError(f"--processes {processes}: only {accelerator.num_processes} started")
    return accelerator


def check_gpus(device: torch.device, processes: int) -> None:
    """Raise EbmctlError where so many processes on this machine have no GPU each: NCCL takes no two on one."""
    if device.type == "cuda" and processes > (gpus := torch.cuda.device_count()):
        raise EbmctlError(f"{processes} processes need a GPU each, and this machine has {gpus}; try --device cpu")


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; copied to a GPU from pinned memory, since the host waits for a copy from other memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def any_process(accelerator: Accelerator, flag: bool) -> bool:
    """Whether a flag is set in any process."""
    return highest(accelerator, float(flag)) > 0


def highest(accelerator: Accelerator, value: float) -> float:
    """The highest value of all processes."""
    if accelerator.num_processes == 1:
        return value
    return float(accelerator.gather(torch.tensor([value], dtype=torch.float32, device=accelerator.device)).max())


def gather_tensors(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """The tensors of every process in the order of their ranks: in the first process; an empty list in the others."""
    if accelerator.num_processes == 1:
        return [dict(tensors)]
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    mine = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(accelerator.device)
    sizes = accelerator.gather(torch.tensor([len(mine)], device=accelerator.device)).tolist()
    padded = torch.zeros(max(sizes), dtype=torch.uint8, device=accelerator.device)
    padded[: len(mine)] = mine
    parts = [torch.empty_like(padded) for _ in sizes] if accelerator.is_main_process else None
    torch.distributed.gather(padded, parts)
    return [load(part[:size].cpu().numpy().tobytes()) for part, size in zip(parts or [], sizes, strict=False)]
