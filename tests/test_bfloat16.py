"""bfloat16 of trained models: what is measured with energies, and every gradient, are those of float32.

The models are bundled ones with their energies scaled up to about 2,800, as those of a large CIFAR-10 energy are: of
such a number bfloat16 keeps multiples of 16.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ebmctl
from ebmctl.config.dataset import DatasetName
from ebmctl.core.energy import Autocast, EnergyNetwork, energy_gradient
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.data.base import DataRequest
from ebmctl.data.datasets import open_dataset
from ebmctl.evaluation.metrics import separation

LARGE = 2800
LABELLED = ("digits+labels", "faces-young", "objects-identity")
MODELS = ("digits", "faces", *LABELLED)


def images(name: str, count: int, size: int = 16, channels: int = 1) -> Tensor:
    """Test images (N, C, H, W) of a dataset that needs no files."""
    dataset = open_dataset(DatasetName.parse(name), DataRequest("test", Path(), size, channels))
    return dataset.__getitems__(list(range(count))).images.float() / 255


def with_labels(network: EnergyNetwork) -> EnergyNetwork:
    """`digits` with maps of a label in its blocks that change its energies a little: no bundled one has labels so."""
    made = ResidualEnergy(ebmctl.load("digits").config.recipe.network.options, 1, 3)
    made.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if ".label" in name:
                parameter.mul_(0.1).add_(1 if name.endswith("bias") else 0)
    return made


def scaled(network: EnergyNetwork, x: Tensor, label: Tensor | None) -> EnergyNetwork:
    """The network with what it is multiplied by at the end multiplied until its energies of x are about 2,800."""
    last = [tower.head for tower in network.scales] if isinstance(network, ResidualEnergy) else []
    last += [network.head.out] if getattr(network, "head", None) else []
    last = [parameter for layer in last for parameter in layer.parameters()]
    with torch.no_grad():
        factor = LARGE / network(x, label).abs().mean()
        for parameter in last if isinstance(network, ResidualEnergy) else [*last, network.scale]:
            parameter.mul_(factor)
    return network


def both(name: str, count: int) -> tuple[EnergyNetwork, EnergyNetwork, Tensor, Tensor | None]:
    """The network in float32 and in bfloat16, data and noise for it, (N, C, H, W), and their labels, (N, L)."""
    model, family = ebmctl.load(name.partition("+")[0]), name.partition("+")[0].partition("-")[0]
    network = copy.deepcopy(model.network).train().requires_grad_()
    channels, size, _ = model.shape
    x = torch.cat([images(kind, count // 2, size, channels) for kind in (family, "noise")])
    labels = 0
    if name == "digits+labels":
        network, labels = with_labels(network), 3
    elif name in LABELLED:
        labels = network.head.out.out_features
    label = torch.eye(labels)[torch.arange(count) % labels] if labels else None
    network = scaled(network, x, label)
    return network, Autocast(network, torch.bfloat16), x, label


@pytest.mark.parametrize("name", MODELS)
def test_large_energies_are_those_of_float32(name):
    network, low, x, label = both(name, 64)
    with torch.no_grad():
        exact, found = network(x, label), low(x, label)
        assert exact.abs().mean() == pytest.approx(LARGE, rel=1e-3)
        assert found.dtype == torch.float32
        assert 1e-6 < (found - exact).norm() / exact.norm() < 1e-3
        if label is not None:  # what labels differ by is small beside the energies
            exact, found = (n.label_energies(x, label.shape[1]) for n in (network, low))
            exact, found = (every - every.mean(1, keepdim=True) for every in (exact, found))
            assert (found - exact).norm() < 3e-2 * exact.norm()


@pytest.mark.parametrize("name", ["faces-young", "objects-identity"])
def test_a_denoised_image_and_label_energies_are_not_rounded_to_bfloat16(name):
    network, low, x, label = both(name, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for found in (network.denoised(x), low.label_energies(x, label.shape[1])):
            assert (found != found.bfloat16()).float().mean() > 0.9


def order(scores: Tensor) -> Tensor:
    return scores.argsort().argsort().double()


@pytest.mark.parametrize("name", ["digits", "digits-icd"])
def test_outliers_keep_their_ranks(name):
    network, low, *_ = both(name, 64)
    sets = [images(kind, 200) for kind in ("digits", "flipped:digits", "constant", "noise")]
    with torch.no_grad():
        exact, found = ([n(x) for x in sets] for n in (network, low))
    ranks = torch.stack([order(torch.cat(scores)) for scores in (exact, found)])
    assert torch.corrcoef(ranks)[0, 1] > 0.999  # Spearman's
    for outside in (1, 2, 3):
        mine, theirs = (separation(e[0].numpy(), e[outside].numpy())["auroc"] for e in (found, exact))
        assert mine == pytest.approx(theirs, abs=0.005)


def compared(found: list[Tensor], exact: list[Tensor], bound: float) -> None:
    """Each gradient's relative error is bounded; of those of about 0 (a bias before a norm) that to all gradients."""
    overall = torch.stack([part.norm() for part in exact]).norm()
    for index, (mine, theirs) in enumerate(zip(found, exact, strict=True)):
        assert mine is not None, index
        assert mine.dtype == torch.float32
        assert theirs.norm() == 0 or mine.norm() > 0, index
        about_0 = theirs.norm() < 1e-6 * overall
        assert (mine - theirs).norm() < (1e-3 * overall if about_0 else bound * theirs.norm()), index


@pytest.mark.parametrize("name", MODELS)
def test_every_gradient_is_that_of_float32(name, generator):
    network, low, x, label = both(name, 16)
    parameters = list(network.parameters())
    weights, direction = torch.randn(len(x), generator=generator), torch.randn(x.shape, generator=generator)
    results = []
    for energy in (low, network):

        def here(images, energy=energy):
            return energy(images, label)

        first = torch.autograd.grad((weights * here(x)).sum(), parameters, materialize_grads=True)
        to_image = energy_gradient(here, x, create_graph=True)
        penalty = (to_image * direction).sum() + to_image.square().sum() / to_image.detach().norm()
        second = torch.autograd.grad(penalty, parameters, materialize_grads=True)
        results.append(([to_image.detach()], list(first), list(second)))
    # a head's gradients are a thousandth of all others and rounded more, second derivatives are rounded twice
    for found, exact, bound in zip(*results, (0.05, 0.1 if label is not None else 0.03, 0.15), strict=True):
        compared(found, exact, bound)
