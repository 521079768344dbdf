"""Where tests train, draw and compute: on the CPU, or on a GPU by EBMCTL_TEST_DEVICE=cuda.

Without it a machine's GPU is hidden, so that the device "auto" is the CPU: also in the processes that tests start.
"""

from __future__ import annotations

import os

import torch

DEVICE = torch.device(os.environ.get("EBMCTL_TEST_DEVICE", "cpu"))
if DEVICE.type == "cpu":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def seeded(seed: int = 0) -> torch.Generator:
    """A generator there."""
    return torch.Generator(DEVICE).manual_seed(seed)
