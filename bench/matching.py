"""Energy Matching's warm-up step: its double backward against a plain backward pass, and the share of the pairing."""

from __future__ import annotations

import torch

from bench import cifar
from bench.timing import best
from ebmctl.core.energy import Conditioned
from ebmctl.core.matching import matching_loss, optimal_pairing
from ebmctl.core.noise import gaussian_noise

BATCH = 128


def main() -> None:
    network = cifar.network()
    energy = Conditioned(network, None)
    parameters = list(network.parameters())
    generator = torch.Generator().manual_seed(0)
    data = torch.rand(BATCH, 3, 32, 32, generator=generator)
    noise = gaussian_noise(BATCH, (3, 32, 32), generator)
    time = torch.rand(BATCH, generator=generator)

    def plain() -> object:
        return torch.autograd.grad(energy(data).mean(), parameters, allow_unused=True)

    def matching() -> object:
        return torch.autograd.grad(matching_loss(energy, noise, data, time).loss, parameters, allow_unused=True)

    single, double, pairing = best(plain, matching, lambda: optimal_pairing(noise, data, None), rounds=3)
    print(f"forward and backward     {single:8.2f} s, batch {BATCH}")
    print(f"warm-up over it          {double / single:8.2f}    (target: at most 4)")
    print(f"pairing in a step        {pairing / (double + pairing):8.4f}    (target: at most 0.10)")
