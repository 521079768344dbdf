from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ebmctl.core.config import DenoisingConfig, ResidualConfig
from ebmctl.core.ema import update_ema
from ebmctl.core.energy import Autocast, Conditioned, energy_gradient, frozen
from ebmctl.core.nets.blocks import ResidualBlock, SelfAttention, WeightStandardizedConv2d
from ebmctl.core.nets.denoising import DenoisingEnergy
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.core.nets.second_derivatives import Swish

SMALL = ResidualConfig(8, (1, 0), (1, 2), attention=1, scales=2)
TABLE_5 = ResidualConfig()
TABLE_6 = ResidualConfig(64, (0, 0, 0, 1, 1), (2, 2, 4, 8, 8), attention=4, scales=3)


@pytest.mark.parametrize(
    ("config", "size", "channels", "labels"),
    [
        (SMALL, 16, 1, 0),
        (SMALL, 15, 3, 4),
        (ResidualConfig(8, (0,), (1,), 0, 1, norm="none"), 9, 1, 2),
        (ResidualConfig(32, (0,), (1,), 0, 1, norm="group"), 8, 1, 0),
        (ResidualConfig(8, (0, 0), (1, 2), 0, 2, spectral_norm=True), 16, 3, 0),
    ],
)
def test_terms_sum_to_the_energy_and_frozen_agrees(config, size, channels, labels, generator):
    network = ResidualEnergy(config, channels, labels)
    x = torch.rand(3, channels, size, size, generator=generator)
    label = torch.eye(labels)[torch.arange(3) % labels] if labels else None
    network.eval()  # spectral norm refines its estimate at each training forward
    terms = network.terms(x, label)
    assert terms.shape == (3, config.scales)
    assert torch.allclose(network(x, label), terms.sum(1))
    fixed = frozen(network)
    assert torch.allclose(fixed.terms(x, label), terms, atol=1e-6)
    ours, theirs = (energy_gradient(Conditioned(n, label), x) for n in (network, fixed))
    assert torch.allclose(ours, theirs, atol=1e-6)
    assert not any(isinstance(m, WeightStandardizedConv2d) for m in fixed.modules())


@pytest.mark.parametrize("network", [ResidualEnergy(SMALL, 1), DenoisingEnergy(DenoisingConfig((4, 6, 8)), 1)])
def test_each_image_has_an_energy_of_its_own(network, generator):
    x = torch.rand(4, 1, 16, 16, generator=generator)
    assert torch.allclose(network(x)[1:], network(x[1:]), atol=1e-6)


def test_the_papers_networks():
    with torch.device("meta"):
        cifar, celeba = ResidualEnergy(TABLE_5, 3), ResidualEnergy(TABLE_6, 3)
    assert sum(p.numel() for p in cifar.parameters()) == 6_564_196
    assert [tower.head.in_features for tower in cifar.scales] == [512, 256, 128]
    assert [tower.head.in_features for tower in celeba.scales] == [512, 512, 256]
    attention = [m for m in celeba.modules() if isinstance(m, SelfAttention)]
    assert [a.value.in_channels for a in attention] == [512]
    groups = {m.num_channels: m.num_groups for m in celeba.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {64: 64, 128: 128, 256: 32, 512: 32}


def test_swish_against_pytorch_up_to_the_second_derivative(generator):
    x = 3 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    x.requires_grad_()
    swish = Swish()
    assert torch.autograd.gradcheck(swish, x)
    assert torch.autograd.gradgradcheck(swish, x)
    assert torch.equal(swish(x), F.silu(x))
    assert torch.equal(swish.eval()(x), F.silu(x))


def test_standardized_filters():
    conv = WeightStandardizedConv2d(5, 7)
    filters = conv.effective_weight().flatten(1)
    assert torch.allclose(filters.mean(1), torch.zeros(7), atol=1e-6)
    assert torch.allclose(filters.std(1), torch.ones(7), atol=1e-3)
    x = torch.rand(2, 5, 8, 8)
    assert torch.allclose(conv.folded()(x), conv(x), atol=1e-6)


def test_attention_against_a_loop(generator):
    attention = SelfAttention(8)
    nn.init.constant_(attention.gamma, 0.7)
    x = torch.rand(2, 8, 3, 3, generator=generator)
    result = attention(x)
    for image, out in zip(x, result, strict=True):
        flat = image.flatten(1)  # (8, 9)
        q, k, v = (f.weight.squeeze() @ flat.reshape(8, 9) if f.weight.shape[0] > 1 else f.weight.view(1, 8) @ flat
                   for f in (attention.query, attention.key, attention.value))  # fmt: skip
        q, k, v = q + attention.query.bias[:, None], k + attention.key.bias[:, None], v + attention.value.bias[:, None]
        for i in range(9):
            weights = torch.softmax(torch.stack([q[:, i] @ k[:, j] for j in range(9)]), 0)
            expected = flat[:, i] + 0.7 * (v * weights).sum(1)
            assert torch.allclose(out.flatten(1)[:, i], expected, atol=1e-5)


def test_a_residual_block_is_its_formula(generator):
    """x + swish(gain2 * norm2(conv2(h)) + bias2), h the same of x with 1 for 2; gains come before biases."""
    block = ResidualBlock(4, "instance", labels=2, spectral=False)
    x, label = torch.rand(2, 4, 6, 6, generator=generator), torch.eye(2)
    h = x
    for conv, norm, linear in ((block.conv1, block.norm1, block.label1), (block.conv2, block.norm2, block.label2)):
        h = F.conv2d(h, conv.effective_weight(), conv.bias, padding=1)
        h = F.instance_norm(h, weight=norm.weight, bias=norm.bias)
        both = linear(label)[:, :, None, None]
        h = F.silu(both[:, :4] * h + both[:, 4:])
    assert torch.allclose(block(x, label), x + h, atol=1e-5)


def test_labels_scale_and_shift(generator):
    network = ResidualEnergy(SMALL, 1, labels=2)
    x = torch.rand(3, 1, 16, 16, generator=generator)
    first, second = (network(x, torch.eye(2)[[i] * 3]) for i in (0, 1))
    assert (first - second).abs().min() > 0


def test_autocast_is_close_and_keeps_float32(generator):
    network = ResidualEnergy(SMALL, 1)
    x = torch.rand(3, 1, 16, 16, generator=generator)
    low = Autocast(network, torch.bfloat16)
    assert low(x).dtype == torch.float32
    assert torch.allclose(low(x), network(x), atol=0.05)
    assert energy_gradient(frozen(low), x).dtype == torch.float32
    assert {p.dtype for p in low.parameters()} == {torch.float32}
    assert not torch.equal(low(x), network(x))


@pytest.mark.parametrize(
    "values",
    [
        {"width": 0},
        {"scales": 5},
        {"scales": 0},
        {"attention": 5},
        {"blocks": ()},
        {"multipliers": (1,)},
        {"blocks": (-1, 0, 0, 0)},
    ],
)
def test_settings_are_checked(values):
    with pytest.raises(ValueError, match=r"stages|width|scales|attention|blocks"):
        ResidualConfig(**values)


def test_ema_follows_and_is_not_dominated_by_its_start():
    average, current = torch.zeros(3), torch.ones(3)
    update_ema([average], [current], decay=0.999, step=1)
    assert torch.allclose(average, torch.full((3,), 0.9))
    average = torch.zeros(3)
    for step in range(100_000, 100_010):
        update_ema([average], [current], decay=0.9, step=step)
    assert torch.allclose(average, torch.full((3,), 1 - 0.9**10))


@pytest.mark.parametrize(("size", "channels", "labels"), [(16, 1, 0), (15, 3, 2)])
def test_the_denoising_energy_is_a_distance(size, channels, labels, generator):
    network = DenoisingEnergy(DenoisingConfig((4, 6, 8), middle=2, scale=0.5, tip=1e-2), channels, labels)
    x = torch.rand(3, channels, size, size, generator=generator)
    label = torch.eye(labels)[torch.arange(3) % labels] if labels else None
    assert torch.equal(network.denoised(x, label), torch.full_like(x, 0.5))
    length = energy_gradient(Conditioned(network, label), x).flatten(1).norm(dim=1)
    assert torch.allclose(length / x[0].numel() ** 0.5, torch.tensor(0.5), rtol=1e-3)  # a cone: as long everywhere
    with torch.no_grad():
        nn.init.normal_(network.out.weight, std=0.1, generator=generator)
    expected = 0.5 * (x.numel() / 3) ** 0.5 * (x - network.denoised(x, label)).flatten(1).norm(dim=1)
    assert torch.allclose(network(x, label), expected, rtol=1e-3)
    fixed = frozen(network)
    assert torch.allclose(fixed(x, label), network(x, label), rtol=1e-5)
    if labels:
        assert not torch.allclose(network(x, label), network(x, 1 - label), rtol=1e-4)
        network.ignore_labels()
        assert torch.allclose(network(x, label), network(x, None), rtol=1e-6)


def test_the_denoising_energy_has_second_derivatives_for_all_parameters(generator):
    network = DenoisingEnergy(DenoisingConfig((4, 6)), 1)
    with torch.no_grad():
        nn.init.normal_(network.out.weight, std=0.1, generator=generator)
    gradient = energy_gradient(network, torch.rand(2, 1, 8, 8, generator=generator), create_graph=True)
    found = torch.autograd.grad(gradient.square().sum(), list(network.parameters()), allow_unused=True)
    assert all(part is not None and part.isfinite().all() and part.abs().sum() > 0 for part in found)


@pytest.mark.parametrize(
    "wrong", [{"widths": ()}, {"widths": (0,)}, {"widths": (99_999,)}, {"middle": 0}, {"scale": 0.0}]
)
def test_the_denoising_energys_settings_are_checked(wrong):
    with pytest.raises(ValueError, match=r"widths|middle|scale"):
        DenoisingConfig(**wrong)


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (5, 1)])
def test_a_label_head_adds_an_energy_of_its_own(size, channels, generator):
    network = DenoisingEnergy(DenoisingConfig((4, 6), label_head=8), channels, 3)
    x = torch.rand(2, channels, size, size, generator=generator)
    every = torch.eye(3)
    alone = network(x, None)
    assert all(torch.equal(network(x, every[[c, c]]), alone) for c in range(3))  # at first labels say nothing
    with torch.no_grad():
        nn.init.normal_(network.head.out.weight, generator=generator)
    added = network.label_energies(x, 3)
    assert added.shape == (2, 3)
    assert added.std(1).min() > 0
    for c in range(3):
        assert torch.allclose(network(x, every[[c, c]]) - alone, added[:, c], atol=1e-4)
    assert torch.allclose(frozen(network)(x, every[:2]), network(x, every[:2]), rtol=1e-5)
    network.ignore_labels()
    assert torch.equal(network(x, every[:2]), alone)


def test_label_energies_of_a_conditional_network_are_its_energies(generator):
    network = DenoisingEnergy(DenoisingConfig((4, 6)), 1, 2)
    with torch.no_grad():
        nn.init.normal_(network.out.weight, std=0.1, generator=generator)
    x = torch.rand(3, 1, 8, 8, generator=generator)
    each = [network(x, torch.eye(2)[[c] * 3]) for c in range(2)]
    assert torch.allclose(network.label_energies(x, 2), torch.stack(each, 1), rtol=1e-6)


@pytest.mark.parametrize("values", [{"label_head": 12}, {"label_head": -8}, {"tip": 0.0}, {"scale": 0.0}])
def test_denoising_settings_are_checked(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        DenoisingConfig(**values)
