from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ebmctl.core import cd
from ebmctl.core.config import ICDConfig, LangevinConfig, ResidualConfig
from ebmctl.core.energy import Conditioned, frozen
from ebmctl.core.langevin import Langevin
from ebmctl.core.nets.blocks import SelfAttention
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.core.rows import SAFETY, bytes_each
from tests.core.quadratic import Quadratic
from tests.device import seeded

SHAPE = (1, 2, 2)
CONFIG = ICDConfig(steps=3, buffer_size=64, energy_regularizer=0.0, kl_entropy=0.0)


def gradients(terms, network, group=None):
    total = [torch.zeros_like(p) for p in network.parameters()]
    for term in terms:
        if group in (None, term.group):
            parts = torch.autograd.grad(term.loss, list(network.parameters()), allow_unused=True)
            total = [t if g is None else t + g for t, g in zip(total, parts, strict=True)]
    return total


def objective(config, seed=0, shape=SHAPE, step_size=0.2, noise=0.01, clamp=False, fill=0, augmentation=lambda x: x):
    sampler = Langevin(LangevinConfig(step_size, noise, clamp), seeded(seed))
    made = cd.ImprovedCD(config, shape, sampler, augmentation)
    if fill:
        made.buffer.add(torch.rand(fill, *shape, generator=seeded(9)), sampler.generator)
    return made


def test_contrastive_gradient_on_a_quadratic_energy():
    """dL/dk = (mean |x+ - m|^2 - mean |x- - m|^2) / 2 / S, dL/dm = -k (mean x+ - mean x-) / S, over S = 2 scales."""
    network = Quadratic(1.5, torch.full(SHAPE, 0.3))
    data, samples = torch.rand(8, *SHAPE), torch.rand(8, *SHAPE)
    config = replace(CONFIG, energy_regularizer=0.7)
    energy = Conditioned(network, None)
    terms = [
        cd.contrastive_loss(energy, data, +1, "data", config),
        cd.contrastive_loss(energy, samples, -1, "x", config),
    ]
    by_k, by_m = gradients(terms, network)
    k, m = network.k.detach(), network.m.detach()

    def square(x):
        return (x - m).flatten(1).square().sum(1)

    expected_k, expected_m = 0.0, torch.zeros(SHAPE)
    for x, sign in ((data, 1), (samples, -1)):
        e = k / 2 * square(x) / 2  # one of the two equal scales
        expected_k += sign * (square(x) / 4).mean() + 0.7 * (2 * e * square(x) / 4).mean()
        expected_m -= (((sign + 0.7 * 2 * e)[:, None, None, None]) * k * (x - m) / 2).mean(0)
    assert torch.allclose(by_k, expected_k, rtol=1e-5)
    assert torch.allclose(by_m, expected_m, rtol=1e-5)


def test_kl_gradient_on_a_quadratic_energy():
    """x^ = y - s k (y - m) and L = E_fixed(x^) / 2: dL/dk = -s k0 <x^ - m0, y - m> / 2, dL/dm = s k k0 (x^ - m0)/2."""
    network = Quadratic(1.5, torch.full(SHAPE, 0.3))
    sampler = Langevin(LangevinConfig(0.2, 0.0, clamp=False), seeded())
    y = torch.rand(8, *SHAPE)
    sample = sampler.step(Conditioned(network, None), y, create_graph=True)
    by_k, by_m = gradients([cd.kl_loss(Conditioned(frozen(network), None), sample, None, 1.0, CONFIG)], network)
    k, m = network.k.detach(), network.m.detach()
    moved = y - 0.2 * k * (y - m)
    assert torch.allclose(by_k, -0.2 * k * ((moved - m) * (y - m)).flatten(1).sum(1).mean() / 2, rtol=1e-5)
    assert torch.allclose(by_m, 0.2 * k * k * (moved - m).mean(0) / 2, rtol=1e-5)


@pytest.mark.parametrize("steps", ["last", "all"])
def test_kl_gradient_of_the_objective_against_finite_differences(steps):
    """With the judging energy given, and fixed: the parameters act by where they move the samples."""
    network = ResidualEnergy(ResidualConfig(4, (0, 0), (1, 2), attention=1, scales=2), 1).double()
    (attention,) = (module for module in network.modules() if isinstance(module, SelfAttention))
    nn.init.constant_(attention.gamma, 0.5)
    fixed, parameters = frozen(network), list(network.parameters())
    shape = (1, 8, 8)
    config = replace(CONFIG, kl_entropy=0.3, kl_steps=steps, entropy_after=1, entropy_neighbors=10, kl_chunk=3)
    data = torch.rand(4, *shape, dtype=torch.float64)

    def kl_terms():
        """The same chains from the same buffer each time; the buffer's images are float32, the network is not."""
        made = objective(config, seed=3, shape=shape, step_size=2.0, clamp=True, fill=64, augmentation=Tensor.double)
        return [term for term in made.losses(network, data, None, lambda _: fixed) if term.group == "kl"]

    exact = gradients(kl_terms(), network)
    checked = 0
    for parameter, gradient in zip(parameters, exact, strict=True):
        direction = torch.randn(parameter.shape, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * 1e-5 * direction)
            values.append(sum(float(term.loss.detach()) for term in kl_terms()))
            with torch.no_grad():
                parameter.sub_(sign * 1e-5 * direction)
        numeric = (values[0] - values[1]) / 2e-5
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=1e-4, abs=1e-9)
        checked += abs(numeric) > 1e-8
    assert checked > 10


def test_no_gradient_flows_through_the_fixed_parameters():
    network = Quadratic(1.5, torch.full(SHAPE, 0.3))
    fixed = frozen(network)
    sample = torch.rand(4, *SHAPE, requires_grad=True)
    term = cd.kl_loss(Conditioned(fixed, None), sample, None, 1.0, CONFIG)
    parameters = [*network.parameters()]
    assert torch.autograd.grad(term.loss, parameters, allow_unused=True, retain_graph=True) == (None, None)
    assert torch.autograd.grad(term.loss, sample)[0].abs().sum() > 0
    assert not any(p.requires_grad for p in fixed.parameters())


@pytest.mark.parametrize("chunk", [1, 3, 10, 11])
def test_chunks_of_the_kl_loss_give_the_same_gradient(chunk):
    """Only the peak memory may depend on kl_chunk: the noise is drawn chunk by chunk, so it is switched off here."""
    torch.manual_seed(0)
    network = Quadratic(1.5, torch.full(SHAPE, 0.3))
    data = torch.rand(16, *SHAPE)
    found = []
    for size in (50, chunk):
        config = replace(CONFIG, kl_chunk=size, kl_entropy=0.3, entropy_after=1, kl_samples=11)
        made = objective(config, fill=64)
        made.sampler.config = LangevinConfig(0.2, 0.0, clamp=False)
        found.append(gradients(made.losses(network, data, None), network, "kl"))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(*found, strict=True))


EACH = bytes_each(Conditioned(Quadratic(1.5, torch.zeros(SHAPE)), None), SHAPE, torch.device("cpu"), create_graph=True)


@pytest.mark.parametrize(
    ("fits", "changes", "chunk"),
    [
        (1000, {}, 20),  # the whole batch
        (1000, {"kl_samples": 12}, 12),
        (19.9, {}, 10),
        (1, {}, 1),
        (0, {}, 1),
        (20, {"kl_steps": "all"}, 5),  # three graphs in a row
        (1, {"kl_chunk": 7}, 7),  # as the recipe says
        (1, {"kl_loss": False}, 32),
    ],
)
def test_the_chunk_is_chosen_by_the_free_memory(fits, changes, chunk):
    made = objective(replace(CONFIG, **changes))
    assert made.chunk == changes.get("kl_chunk", 32)  # where no memory is told
    made.fit_memory(Quadratic(1.5, torch.zeros(SHAPE)), None, 20, int(fits * SAFETY * EACH))
    assert made.chunk == chunk


def test_a_chosen_chunk_is_halved_and_is_part_of_the_state():
    made, other, old, told = (objective(replace(CONFIG, kl_chunk=chunk)) for chunk in (0, 0, 0, 7))
    assert made.need_less_memory() == ""  # the usual one, of a CPU
    assert set(made.state_dict()) == {"images", "seen"}
    for one in (made, other, told):
        one.fit_memory(Quadratic(1.5, torch.zeros(SHAPE)), None, 9, 1 << 40)
    assert [made.need_less_memory() for _ in range(5)] == [
        *(f"the KL loss takes {chunk} samples at a time" for chunk in (5, 3, 2, 1)),
        "",
    ]
    other.load_state_dict(made.state_dict())
    assert (made.chunk, other.chunk) == (1, 1)
    other.load_state_dict(old.state_dict())  # of before, or of a CPU
    assert other.chunk == 1
    told.load_state_dict(made.state_dict())
    assert (told.chunk, told.need_less_memory()) == (7, "")


def test_the_kl_loss_is_the_weighted_sum_of_its_parts():
    """On an image that the augmentation moves by 1/100 for each image of the batch, so that chains (8) and past
    samples (50) lie apart: the energy is k/2 d 0.08^2, half of it a scale, and the distance sqrt(d) (0.50 - 0.08).
    """
    network, data = Quadratic(1.5, torch.zeros(SHAPE)), torch.rand(8, *SHAPE)
    config = replace(CONFIG, kl_energy=0.7, kl_entropy=0.4, entropy_after=1, entropy_neighbors=50, noise_probability=0)
    made = objective(config, step_size=0.0, noise=0.0, augmentation=lambda x: x + len(x) / 100)
    made.buffer.add(torch.zeros(64, *SHAPE), made.sampler.generator)
    (term,) = (term for term in made.losses(network, data, None) if term.group == "kl")
    energy, entropy = 0.7 * 1.5 / 2 * 4 * 0.08**2 / 2, -0.4 * math.log(2 * 0.42)
    assert float(term.logs["loss_kl"]) == pytest.approx(energy, rel=1e-5)
    assert float(term.logs["loss_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(term.loss.detach()) == pytest.approx(energy + entropy, rel=1e-5)


def test_switches():
    network = Quadratic(1.0, torch.zeros(SHAPE))
    data = torch.rand(8, *SHAPE)

    def groups(**changes):
        made = objective(replace(CONFIG, **changes), fill=64)
        return [(t.group, sorted(t.logs)) for t in made.losses(network, data, None)]

    assert [g for g, _ in groups(kl_loss=False)] == ["cd", "cd"]
    assert [g for g, _ in groups(kl_chunk=4)] == ["kl", "kl", "cd", "cd"]
    assert groups(kl_entropy=0.3, entropy_after=64)[0][1] == ["loss_entropy", "loss_kl"]
    assert groups(kl_entropy=0.3, entropy_after=65)[0][1] == ["loss_entropy", "loss_kl"]  # a full buffer is enough
    assert groups(kl_entropy=0.0)[0][1] == ["loss_kl"]


def test_entropy_waits_for_a_filled_buffer():
    config = replace(CONFIG, kl_entropy=0.3, entropy_after=50, buffer_size=100, entropy_neighbors=7)
    made = objective(config, fill=49, augmentation=lambda x: x + 1)
    assert made.past_samples() is None
    made.buffer.add(torch.rand(1, *SHAPE), made.generator)
    past = made.past_samples()
    assert past is not None
    assert past.shape == (7, *SHAPE)
    assert past.min() >= 1  # augmented as they are drawn


def test_entropy_estimate_ranks_known_distributions(generator):
    """H of N(0, s^2 I) grows with s; a point mass, a line and a cube are in this order; two clusters lie between."""

    def loss(draw):
        return float(cd.entropy_loss(draw(64), draw(100)))

    def normal(scale):
        return lambda n: scale * torch.randn(n, 6, generator=generator)

    by_scale = [loss(normal(s)) for s in (0.01, 0.1, 1.0, 10.0)]
    assert by_scale == sorted(by_scale, reverse=True)
    # log of a distance scales exactly: 10 times the spread is ln 10 more entropy a dimension-free neighbour distance
    assert by_scale[1] - by_scale[2] == pytest.approx(2.302585, abs=0.25)

    def line(n):
        return torch.rand(n, 1, generator=generator) * torch.ones(6)

    def cube(n):
        return torch.rand(n, 6, generator=generator)

    def clusters(n):
        return torch.randint(0, 2, (n, 1), generator=generator) + 0.05 * torch.randn(n, 6, generator=generator)

    assert loss(lambda n: torch.zeros(n, 6)) > loss(line) > loss(clusters) > loss(cube)


def test_entropy_is_finite_with_a_gradient_at_distance_zero():
    x = torch.zeros(3, *SHAPE, requires_grad=True)
    loss = cd.entropy_loss(x, torch.zeros(5, *SHAPE))
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, x)[0]).all()


def test_a_sampler_without_gradient_and_the_kl_loss_is_an_error(generator):
    sampler = Langevin(LangevinConfig(), generator)
    sampler.differentiable = False
    with pytest.raises(ValueError, match="not differentiable"):
        cd.ImprovedCD(CONFIG, SHAPE, sampler, lambda x: x)
    assert cd.ImprovedCD(replace(CONFIG, kl_loss=False), SHAPE, sampler, lambda x: x)


def test_labels_reach_every_part_of_the_loss():
    """With labels bound wrongly (say to the whole batch in a chunk) shapes would not match, or values differ."""
    torch.manual_seed(0)
    network = ResidualEnergy(ResidualConfig(4, (0,), (1,), attention=0, scales=1), 1, labels=3)
    shape = (1, 8, 8)
    data, label = torch.rand(6, *shape), torch.eye(3).repeat(2, 1)
    config = replace(CONFIG, kl_chunk=2, kl_samples=4)
    terms = list(objective(config, shape=shape, fill=32).losses(network, data, label))
    other = list(objective(config, shape=shape, fill=32).losses(network, data, label.flip(0)))
    assert [t.group for t in terms] == ["kl", "kl", "cd", "cd"]
    assert not any(torch.equal(a.loss, b.loss) for a, b in zip(terms, other, strict=True))
