from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ebmctl.core.config import ResidualConfig
from ebmctl.core.energy import Autocast, energy_gradient
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.core.nets.second_derivatives import conv3x3

SMALL = ResidualConfig(8, (1, 0), (1, 2), attention=0, scales=2)


def test_convolution_against_pytorch_up_to_the_second_derivative(generator):
    """Of x, weight and bias, each of all three; gradgradcheck compares them with finite differences besides."""
    x = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True)
    found = []
    for convolve in (conv3x3, lambda x, w, b: F.conv2d(x, w, b, padding=1)):
        out = convolve(x, weight, bias)
        plain = torch.autograd.grad(out.sin().sum(), [x, weight, bias], retain_graph=True)
        first = torch.autograd.grad(out.sin().sum(), [x, weight, bias], create_graph=True)
        second = [torch.autograd.grad(part.square().sum(), [x, weight, bias], retain_graph=True) for part in first]
        found.append([out, *plain, *first, *(part for parts in second for part in parts)])
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(*found, strict=True))
    assert all(part.abs().max() > 0 for part in found[0])
    assert torch.autograd.gradgradcheck(conv3x3, [x, weight, bias])


def test_a_networks_parameter_gradients_can_be_differentiated(generator, monkeypatch):
    """As an objective does that asks for a small gradient, against a network of PyTorch's own convolutions."""
    network = ResidualEnergy(SMALL, 1).double()
    parameters = list(network.parameters())
    x = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    found = []
    for convolve in (conv3x3, lambda x, w, b: F.conv2d(x, w, b, padding=1)):
        monkeypatch.setattr("ebmctl.core.nets.blocks.conv3x3", convolve)
        first = torch.autograd.grad(network(x).square().sum(), parameters, create_graph=True)
        penalty = sum(part.square().sum() for part in first)
        found.append([*first, *torch.autograd.grad(penalty, parameters)])
    largest = max(float(part.detach().norm()) for part in found[1])
    assert all((mine - theirs).norm() <= 1e-10 * largest for mine, theirs in zip(*found, strict=True))
    second = zip(parameters, found[0][len(parameters) :], strict=True)
    assert all(part.norm() > 1e-6 * largest for parameter, part in second if parameter.ndim == 4)


def test_under_autocast_it_is_the_same_function_and_gradients_are_float32(generator):
    x = torch.rand(2, 3, 6, 5, generator=generator, requires_grad=True)
    weight = torch.randn(2, 3, 3, 3, generator=generator, requires_grad=True)
    bias = torch.randn(2, generator=generator, requires_grad=True)
    found = []
    for low in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            out = conv3x3(x, weight, bias)
        assert out.dtype == (torch.bfloat16 if low else torch.float32)
        assert type(out.grad_fn).__name__ == "_ConvolutionBackward"  # not PyTorch's, whose second derivative is slow
        first = torch.autograd.grad(out.float().sin().sum(), [x, weight, bias], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [x, weight, bias])
        found.append([*first, *second])
    for mine, exact in zip(*found, strict=True):
        assert mine.dtype == torch.float32
        assert 0 < (mine - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_both_derivatives_can_be_traced(precision, generator):
    network = ResidualEnergy(SMALL, 1)
    energy = network if precision == torch.float32 else Autocast(network, precision)
    parameters = list(network.parameters())

    def step(x):
        gradient = energy_gradient(energy, x, create_graph=True)
        return [gradient, *torch.autograd.grad(gradient.square().sum(), parameters, materialize_grads=True)]

    x = torch.rand(2, 1, 8, 8, generator=generator)
    traced = make_fx(step)(torch.zeros_like(x))
    for mine, eager in zip(traced(x), step(x), strict=True):
        assert torch.allclose(mine, eager, rtol=1e-4, atol=1e-7)


def test_a_float64_network_stays_float64_under_autocast(generator):
    network = ResidualEnergy(SMALL, 1).double()
    x = torch.rand(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        energies = network(x)
    assert energies.dtype == torch.float64
    assert torch.equal(energies, network(x))


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("low", [False, True])
def test_a_sampler_step_computes_no_gradient_to_weights(low, create_graph, generator):
    wanted = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.convolution_backward.default:
                wanted.append(list(args[-1]))
            return func(*args, **(kwargs or {}))

    network = ResidualEnergy(SMALL, 1)
    network = Autocast(network, torch.bfloat16) if low else network
    x = torch.rand(2, 1, 8, 8, generator=generator)
    with Watch():
        energy_gradient(network, x, create_graph=create_graph)
        assert all(parts == [True, False, False] for parts in wanted)
        torch.autograd.grad(network(x).sum(), list(network.parameters()))
    assert [False, True, True] in wanted or [True, True, True] in wanted  # that they are seen at all
