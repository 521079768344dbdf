"""Whether compiled and captured networks compute what eager mode does, in float32 without TF32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.gpu.parts import Sizes, cifar10, in_form
from bench.gpu.unet import UNetEnergy
from ebmctl.core.energy import Conditioned, EnergyNetwork
from ebmctl.core.fast import Fast
from ebmctl.core.matching import matching_loss
from ebmctl.core.noise import gaussian_noise
from ebmctl.models.folder import build_network
from ebmctl.models.form import Form

LOSS, GRADIENT = 1e-5, 1e-4  # relative
ROWS = 16
CHECKS = ("check", "check-unet")


def checked(part: str, form: Form, sizes: Sizes, device: torch.device) -> dict[str, Any]:
    """The largest relative errors of losses and of gradients, and whether all of it ran compiled."""
    recipe = cifar10(sizes)
    torch.manual_seed(0)
    if part == "check-unet":
        network: EnergyNetwork = UNetEnergy(sizes.unet, recipe.data.channels, recipe.data.size)
    else:
        network = build_network(recipe.network, recipe.data.channels, 0)
    network = network.to(device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():  # some parameters are 0 as they come, and hide what they should let through
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator, device=device))
    data = torch.rand(min(ROWS, sizes.batch), *recipe.shape, generator=generator, device=device)
    noise = gaussian_noise(len(data), data.shape[1:], generator)
    time = torch.rand(len(data), generator=generator, device=device)
    quick = in_form(network, form)
    assert isinstance(quick, Fast)
    losses: list[float] = []
    gradients: list[float] = []
    for mine, exact in zip(values(quick, data, noise, time), values(network, data, noise, time), strict=True):
        (gradients if len(exact) > 1 else losses).append(relative(mine, exact))
    compiled = bool(quick.programs) and None not in quick.programs.values()
    good = max(losses) <= LOSS and max(gradients) <= GRADIENT and compiled
    return {"losses": max(losses), "gradients": max(gradients), "compiled": compiled, "ok": good}


def values(network: EnergyNetwork, data: Tensor, noise: Tensor, time: Tensor) -> Iterator[Sequence[Tensor]]:
    """Energies with the gradient of their sum, and the matching loss with its gradient."""
    energy, parameters = Conditioned(network, None), list(network.parameters())
    energies = energy(data)
    yield [energies.detach()]
    yield torch.autograd.grad(energies.square().mean(), parameters, allow_unused=True, materialize_grads=True)
    loss = matching_loss(energy, noise, data, time).loss
    yield [loss.detach()]
    yield torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)


def relative(mine: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """||mine - exact|| / ||exact|| over all tensors; infinite where something is not a number."""
    a, b = (torch.cat([t.flatten() for t in tensors]).double() for tensors in (mine, exact))
    error = float((a - b).norm() / b.norm())
    return error if error == error else float("inf")
