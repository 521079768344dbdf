"""The CIFAR-10 network that the benchmarks use: three scales, attention, width 64."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebmctl.core.config import ResidualConfig
from ebmctl.core.energy import EnergyNetwork
from ebmctl.core.nets.residual import ResidualEnergy

BATCH = 32
SHAPE = (BATCH, 3, 32, 32)


def network() -> ResidualEnergy:
    torch.manual_seed(0)
    return ResidualEnergy(ResidualConfig(), 3)


def convolution_flops(energy: EnergyNetwork, x: Tensor) -> int:
    """Multiplications and additions of all convolutions in one forward pass."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += 2 * output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in energy.modules() if isinstance(m, nn.Conv2d)]
    energy(x)
    for hook in hooks:
        hook.remove()
    return total
