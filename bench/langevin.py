"""One Langevin step: share of the machine's matrix-product rate, and what bfloat16 gains."""

from __future__ import annotations

import torch

from bench import cifar
from bench.timing import best
from ebmctl.core.config import LangevinConfig
from ebmctl.core.energy import Autocast, frozen
from ebmctl.core.langevin import Langevin


def main() -> None:
    fixed = frozen(cifar.network())
    low = frozen(Autocast(cifar.network(), torch.bfloat16))
    x = torch.rand(cifar.SHAPE)
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    sampler = Langevin(LangevinConfig(), torch.Generator())
    product, step, bf16 = best(lambda: a @ b, lambda: sampler.step(fixed, x), lambda: sampler.step(low, x), rounds=12)
    rate = 2 * 2048**3 / product
    flops = 2 * cifar.convolution_flops(fixed, x)  # forward, and the gradient to the input
    print(f"matrix product           {rate / 1e9:8.1f} GFLOP/s")
    print(f"convolutions of a step   {flops / step / 1e9:8.1f} GFLOP/s  ({step * 1e3:.0f} ms a step)")
    print(f"share                    {flops / step / rate:8.3f}    (target: 0.95)")
    print(f"bf16 over fp32           {step / bf16:8.2f}    (target: 1.4)")
