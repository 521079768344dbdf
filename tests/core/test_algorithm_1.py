"""A whole step of the paper's Algorithm 1 against its lines written out, without the project's objective or sampler."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from torch import nn

from ebmctl.core.augment import augment
from ebmctl.core.cd import ImprovedCD
from ebmctl.core.config import AugmentConfig, ICDConfig, LangevinConfig, ResidualConfig
from ebmctl.core.langevin import Langevin
from ebmctl.core.nets.blocks import SelfAttention
from ebmctl.core.nets.residual import ResidualEnergy
from tests.device import seeded

SHAPE = (3, 16, 16)
BATCH, STEPS, STEP_SIZE, SIGMA = 6, 3, 40.0, 0.01
CHUNKS = (3, 1)  # kl_chunk = 3 of kl_samples = 4
NEIGHBORS, CAPACITY, SEEN = 7, 16, 24
FRESH, REGULARIZER, KL_ENERGY, KL_ENTROPY = 0.3, 0.6, 1.7, 0.4
AUGMENT = AugmentConfig(crop=0.3, flip=0.5, color=0.5, color_probability=0.8, grey=0.2)


def energy_network():
    """Three scales with attention, in float64; what starts at 0 or 1 has other values."""
    network = ResidualEnergy(ResidualConfig(4, (1, 0, 0), (1, 2, 2), attention=1, scales=3), channels=3).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SelfAttention):
                module.gamma.fill_(0.7)
            elif isinstance(module, nn.GroupNorm):
                module.weight.add_(0.3 * torch.randn_like(module.weight))
                module.bias.add_(0.3 * torch.randn_like(module.bias))
    return network


def longhand(network, positives, images, draw, kl_steps):
    """Algorithm 1, line by line, from the buffer `images` (CAPACITY, C, H, W), uint8, of the SEEN images so far.

    Differences from the paper, all of them its authors': the regulariser, the entropy's weight, energies averaged over
    scales in the losses, the noise before the gradient, the clamping, and the KL loss on some of the samples only.
    """
    theta = list(network.parameters())
    fixed = copy.deepcopy(network).requires_grad_(False)  # E with the parameters Omega(theta)

    def data_augmentation(x):  # D
        return augment(x.double(), AUGMENT, draw)

    def from_buffer(count):
        return images[torch.randint(CAPACITY, (count,), generator=draw)] / 255

    def langevin(energy, x, graph):
        y = x + SIGMA * torch.randn(x.shape, generator=draw, dtype=x.dtype)
        y = y if y.requires_grad else y.requires_grad_()
        (slope,) = torch.autograd.grad(energy(y).sum(), y, create_graph=graph)
        return (y - STEP_SIZE * slope).clamp(0, 1)

    # x~^0 ~ B with 99 % probability and U otherwise
    uniform = torch.rand((BATCH, *SHAPE), generator=draw)
    fresh = torch.rand(BATCH, generator=draw) < FRESH
    assert 0 < fresh.sum() < BATCH
    x = from_buffer(BATCH)
    x[fresh] = uniform[fresh]
    # x~^0 = D(x~^0)
    x = data_augmentation(x)
    # X ~ B for nearest neighbour entropy calculation (augmented as the chains are)
    past = data_augmentation(from_buffer(NEIGHBORS))

    # for sample step k = 1 to K: x~^(k-1) = Omega(x~^(k-1)); x~^k = x~^(k-1) - grad E(x~^(k-1)) + omega
    with_graph = STEPS if kl_steps == "all" else 1
    for _ in range(STEPS - with_graph):
        x = langevin(network, x.detach(), graph=False).detach()
    # x^ = x~^K with gradient propagation, for the first samples; the others go on without
    propagated, first = [], 0
    for count in CHUNKS:
        x_hat = x[first : first + count]
        for _ in range(with_graph):  # through all steps there is no Omega between them
            x_hat = langevin(network, x_hat, graph=True)
        propagated.append(x_hat)
        first += count
    x_hat, rest = torch.cat(propagated), x[first:]
    for _ in range(with_graph):
        rest = langevin(network, rest.detach(), graph=False)
    # x^- = Omega(x~^K)
    x_minus = torch.cat([x_hat, rest]).detach()
    assert ((x_minus > 0) & (x_minus < 1)).float().mean() > 0.2  # not all clamped away

    # L_CD = 1/N sum_i (E(x+_i) - E(x-_i)), and the authors' regulariser
    cd = network.terms(positives).mean() - network.terms(x_minus).mean()
    square = network.terms(positives).square().mean() + network.terms(x_minus).square().mean()
    # L_KL = E_Omega(theta)(x^) - log NN(x^, X)
    kl_energy = fixed.terms(x_hat).mean()
    nearest = torch.stack([min((one - other).square().sum().sqrt() for other in past) for one in x_hat])
    kl_entropy = -nearest.log().mean()
    parts = {
        "loss_cd": cd,
        "loss_regularizer": REGULARIZER * square,
        "loss_kl": KL_ENERGY * kl_energy,
        "loss_entropy": KL_ENTROPY * kl_entropy,
    }
    # Delta theta = grad_theta (L_CD + L_KL)
    gradients = {
        "cd": torch.autograd.grad(parts["loss_cd"] + parts["loss_regularizer"], theta),
        "kl": torch.autograd.grad(parts["loss_kl"] + parts["loss_entropy"], theta, materialize_grads=True),
    }
    # B = B u x^-: a reservoir of CAPACITY (Vitter's algorithm R), as its authors keep it
    images = images.clone()
    kept = torch.rand(BATCH, generator=draw, dtype=torch.float64)
    for i in range(BATCH):
        slot = int(kept[i] * (SEEN + i + 1))  # each of the images so far, this one too, is as likely to go
        if slot < CAPACITY:
            images[slot] = (255 * x_minus[i]).round().to(torch.uint8)
    return {name: float(part.detach()) for name, part in parts.items()}, gradients, images


@pytest.mark.parametrize("kl_steps", ["last", "all"])
def test_a_step_of_algorithm_1_is_its_lines_written_out(kl_steps, generator):
    network = energy_network()
    positives = torch.rand((BATCH, *SHAPE), generator=generator, dtype=torch.float64)
    images = torch.randint(0, 256, (CAPACITY, *SHAPE), generator=generator, dtype=torch.uint8)
    draw = seeded(4)
    parts, gradients, after = longhand(network, positives, images, draw, kl_steps)

    draw = seeded(4)
    config = ICDConfig(
        steps=STEPS, noise_probability=FRESH, buffer_size=CAPACITY, energy_regularizer=REGULARIZER,
        kl_energy=KL_ENERGY, kl_entropy=KL_ENTROPY, kl_samples=sum(CHUNKS), kl_chunk=max(CHUNKS), kl_steps=kl_steps,
        entropy_neighbors=NEIGHBORS, entropy_after=CAPACITY,
    )  # fmt: skip
    bound = functools.partial(augment, config=AUGMENT, generator=draw)
    sampler = Langevin(LangevinConfig(STEP_SIZE, SIGMA), draw)
    objective = ImprovedCD(config, SHAPE, sampler, lambda x: bound(x.double()))
    objective.load_state_dict({"images": images, "seen": torch.tensor(SEEN)})
    logs, found = {}, {}
    for term in objective.losses(network, positives, None):
        found.setdefault(term.group, []).append(
            torch.autograd.grad(term.loss, list(network.parameters()), materialize_grads=True)
        )
        for name, value in term.logs.items():
            logs[name] = logs.get(name, 0) + value

    for name, part in parts.items():
        assert part != 0
        assert float(logs[name]) == pytest.approx(part, rel=1e-10), name
    for group, expected in gradients.items():
        largest = max(float(part.norm()) for part in expected)
        for mine, truth in zip(zip(*found[group], strict=True), expected, strict=True):
            assert (sum(mine) - truth).norm() <= 1e-9 * largest
    assert torch.equal(objective.buffer.images, after)
    assert not torch.equal(after, images)
    assert int(objective.state_dict()["seen"]) == SEEN + BATCH
