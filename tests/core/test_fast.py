"""Compiled energies: values and gradients of every order are those of eager mode, whatever is asked of them."""

from __future__ import annotations

import copy

import pytest
import torch

from ebmctl.core import fast
from ebmctl.core.config import DenoisingConfig, ResidualConfig
from ebmctl.core.energy import Autocast, Conditioned, EnergyNetwork, energy_gradient, frozen, refresh
from ebmctl.core.fast import Fast, _Captured, as_it_is, inductor, padded
from ebmctl.core.nets.blocks import SpectralConv2d, WeightStandardizedConv2d
from ebmctl.core.nets.denoising import DenoisingEnergy
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.core.nets.second_derivatives import Swish

CASES = [("residual", 0), ("residual", 3), ("denoising", 0), ("denoising", 3), ("head", 3)]
NETWORKS = {
    "residual": lambda labels: ResidualEnergy(ResidualConfig(4, (0,), (1,), attention=1, scales=1), 3, labels),
    "denoising": lambda labels: DenoisingEnergy(DenoisingConfig((4, 4)), 3, labels),
    "head": lambda labels: DenoisingEnergy(DenoisingConfig((4,), label_head=8), 3, labels),
}


def made(kind: str, labels: int, generator: torch.Generator) -> EnergyNetwork:
    network = NETWORKS[kind](labels).double()  # in which no rounding hides a difference
    with torch.no_grad():
        for parameter in network.parameters():  # some are 0 as they come, and hide what they should let through
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def relative(mine, exact) -> float:
    mine, exact = (torch.cat([p.flatten() for p in parts]) for parts in (mine, exact))
    return float((mine - exact).norm().detach() / exact.norm().detach())


def same(mine, exact) -> bool:
    """Whether gradients are the same to 1e-4, one by one, and none is missing."""
    total = torch.cat([part.flatten() for part in exact]).norm()
    close = [
        float((m - e).norm()) <= 1e-4 * float(e.norm()) + 1e-6 * float(total) for m, e in zip(mine, exact, strict=True)
    ]
    return all(close) and all(
        bool(m.any()) == bool(e.any()) or e.norm() < 1e-6 * total for m, e in zip(mine, exact, strict=True)
    )


def gradients(value, network):
    return torch.autograd.grad(value, list(network.parameters()), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize(("kind", "labels"), CASES)
def test_energies_and_their_derivatives_are_those_of_eager_mode(kind, labels, generator):
    network = made(kind, labels, generator)
    quick = Fast(network, as_it_is)
    x = torch.rand(4, 3, 8, 8, generator=generator, dtype=torch.float64)
    label = torch.eye(3, dtype=torch.float64)[[0, 2, 1, 1]] if labels else None
    weights, direction = (
        torch.randn(4, generator=generator).double(),
        torch.randn(x.shape, generator=generator).double(),
    )

    def derived(energy):
        x.requires_grad_(False)
        value = (weights * energy(x)).sum()
        yield [energy(x).detach()]
        yield gradients(value, network)
        yield [energy_gradient(energy, x)]
        yield gradients((direction * energy_gradient(energy, x, create_graph=True)).sum(), network)
        x.requires_grad_()
        gradient = energy_gradient(energy, x, create_graph=True)
        yield torch.autograd.grad((direction * gradient.square()).sum(), [x])
        yield torch.autograd.grad((weights * energy.terms(x).sum(1)).sum(), [x])

    for mine, exact in zip(derived(Conditioned(quick, label)), derived(Conditioned(network, label)), strict=True):
        assert relative(mine, exact) < 1e-10
        assert same(mine, exact)
    assert quick.programs
    assert None not in quick.programs.values()  # all of it ran compiled
    if labels:
        exact = network.label_energies(x, 3)
        mine = quick.label_energies(x, 3)
        assert relative([mine], [exact]) < 1e-10
        assert same(gradients(mine.square().sum(), network), gradients(exact.square().sum(), network))
        assert None not in quick.programs.values()


def test_derivatives_beyond_the_compiled_ones_are_taken_in_eager_mode(generator):
    network = made("residual", 0, generator).float()
    quick = Fast(network, as_it_is)
    x = torch.rand(2, 3, 8, 8, generator=generator)

    def third(energy):
        y = x.clone().requires_grad_()
        (first,) = torch.autograd.grad(energy(y).sum(), y, create_graph=True)  # not by `energy_gradient`
        return gradients(first.square().sum(), network)

    assert same(third(quick), third(network))


def test_calls_may_overlap(generator):
    network = made("residual", 0, generator).float()
    quick = Fast(network, as_it_is)
    a, b = torch.rand(2, 2, 3, 8, 8, generator=generator)
    first, second = quick(a).square().sum(), quick(b).square().sum()
    mine = gradients(first - 2 * second, network)
    assert same(mine, gradients(network(a).square().sum() - 2 * network(b).square().sum(), network))


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (5, [6]), (8, [8]), (20, [8, 8, 4])])
def test_batches_of_any_size_are_filled_up_or_split(count, sizes, generator):
    network = made("residual", 3, generator).float()
    seen = []
    quick = Fast(network, lambda graph, inputs: seen.append(len(inputs[-1])) or graph, most=8)
    x = torch.rand(count, 3, 8, 8, generator=generator)
    label = torch.eye(3)[torch.arange(count) % 3]
    weights = torch.randn(count, generator=generator)
    mine, exact = quick(x, label), network(x, label)
    assert len(mine) == count
    assert relative([mine], [exact]) < 1e-5
    assert same(gradients((weights * mine).sum(), network), gradients((weights * exact).sum(), network))
    keys = [key[1][0][0][0] for key in quick.programs]
    assert sorted(keys) == sorted(set(sizes))


@pytest.mark.parametrize(
    ("count", "size"), [(1, 1), (2, 2), (3, 3), (5, 6), (7, 8), (9, 12), (64, 64), (65, 96), (97, 100), (100, 100)]
)
def test_few_sizes_are_compiled(count, size):
    assert padded(count, 100) == size


def test_a_network_that_cannot_be_traced_runs_as_before_and_says_why(generator):
    class Random(EnergyNetwork):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def terms(self, x, label=None):
            return (self.weight * x.flatten(1).sum(1) * (1 + 0 * torch.rand(len(x))))[:, None]

    class Deciding(Random):
        def terms(self, x, label=None):
            return self.weight * x.flatten(1).sum(1, keepdim=True) * (2 if x.mean() > 0 else 1)

    x = torch.rand(2, 3, 8, 8, generator=generator)
    for network, reason in ((Random(), "random"), (Deciding(), "DataDependent")):
        lines: list[str] = []
        quick = Fast(network, as_it_is, say=lines.append)
        assert torch.allclose(quick(x), network(x))
        assert same(gradients(quick(x).sum(), network), gradients(network(x).sum(), network))
        assert any("not compiled" in line and reason in line for line in lines)
        assert all("\n" not in line for line in lines)


def test_a_network_without_parameters_is_compiled_too(generator):
    class Norm(EnergyNetwork):
        def terms(self, x, label=None):
            return x.flatten(1).square().sum(1, keepdim=True)

    quick = Fast(Norm(), as_it_is)
    x = torch.rand(2, 3, 8, 8, generator=generator)
    assert torch.allclose(energy_gradient(Conditioned(quick, None), x), 2 * x)
    assert quick(x[:0]).shape == (0,)
    assert energy_gradient(Conditioned(quick, None), x[:0]).shape == (0, 3, 8, 8)
    assert None not in quick.programs.values()


def test_a_compiler_that_fails_is_told_once_and_done_without(generator):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nand a page of what else")

    lines: list[str] = []
    network = made("residual", 0, generator).float()
    quick = Fast(network, broken, say=lines.append)
    x = torch.rand(2, 3, 8, 8, generator=generator)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(quick(x), network(x))
    assert [line for line in lines if "not compiled" in line] == [
        "terms is not compiled: RuntimeError: no C++ compiler"
    ]


def test_spectral_norm_changes_its_buffers_so_that_only_frozen_copies_are_compiled(generator):
    class Net(EnergyNetwork):
        def __init__(self):
            super().__init__()
            self.conv = SpectralConv2d(3, 4)

        def terms(self, x, label=None):
            return self.conv(x).square().sum((1, 2, 3))[:, None]

    network, x = Net(), torch.rand(2, 3, 8, 8, generator=generator)
    with torch.no_grad():
        for quick, compiled in (
            (Fast(copy.deepcopy(network), as_it_is), False),
            (Fast(frozen(network), as_it_is), True),
        ):
            quick(x)
            assert (None not in quick.programs.values()) == compiled


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_frozen_copy_is_brought_up_to_date_where_it_is(precision, generator):
    network = made("residual", 3, generator).float()
    energy = Autocast(network, torch.bfloat16) if precision == "bf16" else network
    freeze = fast.FastFreeze(energy, as_it_is, 8, lambda _: None)
    x = torch.rand(2, 3, 8, 8, generator=generator)
    label = torch.eye(3)[[0, 1]]
    before = [p.data_ptr() for p in freeze(energy).parameters()]
    first = freeze(energy)(x, label)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    second = freeze(energy)(x, label)
    assert [p.data_ptr() for p in freeze(energy).parameters()] == before
    assert not any(p.requires_grad for p in freeze(energy).parameters())
    assert not torch.allclose(first, second)
    assert torch.allclose(second, frozen(energy)(x, label))
    assert len(freeze.copy.programs) == 1


def test_refresh_is_frozen_anew(generator):
    network = made("residual", 0, generator).float()
    fixed = frozen(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    refresh(fixed, network)
    assert all(torch.equal(a, b) for a, b in zip(fixed.parameters(), frozen(network).parameters(), strict=True))


@pytest.mark.slow
def test_inductor_gives_the_same_energies_and_gradients(generator):
    class Small(EnergyNetwork):
        def __init__(self):
            super().__init__()
            self.conv, self.swish = WeightStandardizedConv2d(3, 4), Swish()
            self.norm = torch.nn.GroupNorm(4, 4)

        def terms(self, x, label=None):
            return self.swish(self.norm(self.conv(x))).square().mean((1, 2, 3))[:, None]

    network, x = Small(), torch.rand(4, 3, 8, 8, generator=generator)
    quick = Fast(network, inductor)
    direction = torch.randn(x.shape, generator=generator)
    for mine, exact in zip(*(list(both(energy, network, x, direction)) for energy in (quick, network)), strict=True):
        assert relative(mine, exact) < 1e-5
        assert same(mine, exact)
    assert None not in quick.programs.values()


def both(energy, network, x, direction):
    yield gradients(energy(x).sum(), network)
    gradient = energy_gradient(Conditioned(energy, None), x, create_graph=True)
    yield [gradient.detach()]
    yield gradients((direction * gradient).sum(), network)


@pytest.fixture
def replayed(monkeypatch):
    """Graphs of CUDA as a CPU can have them: a call overwrites the results of the one before, where they are."""
    replays = []

    def stand_in(kernel, fixed, moving, pool):
        own = [t.clone() for t in moving]
        results = [t.clone() for t in kernel(*fixed, *own)]

        def replay(*new):
            replays.append(len(results))
            for mine, given in zip(own, new, strict=True):
                mine.copy_(given)
            for old, made in zip(results, kernel(*fixed, *own), strict=True):
                old.copy_(made)
            return results

        return replay

    monkeypatch.setattr(fast, "captured", stand_in)
    monkeypatch.setattr(
        fast, "_Program", lambda graphs, inputs, lower: _Captured(graphs, inputs, lower, len(inputs) - 1)
    )
    monkeypatch.setattr(fast, "_shared_pool", lambda: (object(), object()))
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    return replays


def test_replayed_graphs_keep_what_calls_before_gave(replayed, generator):
    network = made("residual", 0, generator).float()
    quick = Fast(network, as_it_is)
    a, b = torch.rand(2, 2, 3, 8, 8, generator=generator)
    with torch.no_grad():
        kept = quick.terms(a)
        quick.terms(b)
    assert relative([kept], [network.terms(a)]) < 1e-5
    first = gradients(quick(a).sum(), network)
    gradients(quick(b).sum(), network)
    assert same(first, gradients(network(a).sum(), network))


def test_replayed_graphs_go_back_where_another_call_came_between(replayed, generator):
    network = made("residual", 0, generator).float()
    quick = Fast(network, as_it_is)
    a, b = torch.rand(2, 2, 3, 8, 8, generator=generator)
    loss = quick(a).square().sum() - 2 * quick(b).square().sum()
    del replayed[:]
    mine = gradients(loss, network)
    assert len(replayed) == 3  # the second's backward; the first's forward again, and its backward
    assert same(mine, gradients(network(a).square().sum() - 2 * network(b).square().sum(), network))


def test_replayed_graphs_read_the_parameters_of_now(replayed, generator):
    network = made("residual", 0, generator).float()
    quick = Fast(network, as_it_is)
    x = torch.rand(2, 3, 8, 8, generator=generator)
    gradients(quick(x).sum(), network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    assert relative([quick(x)], [network(x)]) < 1e-5
    assert same(gradients(quick(x).sum(), network), gradients(network(x).sum(), network))
