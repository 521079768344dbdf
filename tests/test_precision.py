"""bf16 beside fp32: close, not the same, and float32 where it has to be."""

from __future__ import annotations

import copy

import pytest
import torch

from ebmctl.core.config import DenoisingConfig, ResidualConfig
from ebmctl.core.energy import Autocast, energy_gradient
from ebmctl.core.nets.denoising import DenoisingEnergy
from ebmctl.core.nets.residual import ResidualEnergy
from ebmctl.models.form import Form
from ebmctl.training.trainer import fit
from tests.spies import gradients_of
from tests.test_run import trainer

ROUNDING = 2.0**-8  # of bfloat16, relative


def error(low: torch.Tensor, exact: torch.Tensor) -> float:
    """The relative error of a tensor."""
    return float((low - exact).norm() / exact.norm())


def flat(parts) -> torch.Tensor:
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("labels", [0, 3])
@pytest.mark.parametrize("kind", ["residual", "denoising"])
def test_energies_and_gradients_are_those_of_fp32_but_for_rounding(kind, labels, generator):
    with torch.no_grad():
        if kind == "residual":
            network = ResidualEnergy(ResidualConfig(8, (0, 0), (1, 2), attention=1, scales=2), 1, labels)
            for tower in network.scales:
                tower.head.weight.mul_(200)  # as it comes its energies are under 0.01: any would be close
        else:
            network = DenoisingEnergy(DenoisingConfig((8, 12)), 1, labels)
            network.out.weight.normal_(0, 0.1, generator=generator)  # as it comes it is 0
    # an untrained residual network's energies are small sums of large parts
    bound = 1e-3 if kind == "denoising" else 2.5 * ROUNDING
    low = Autocast(copy.deepcopy(network), torch.bfloat16)
    x = torch.rand(16, 1, 16, 16, generator=generator)
    label = torch.eye(labels)[torch.arange(16) % labels] if labels else None
    energies = low(x, label).detach()
    exact = network(x, label).detach()
    assert energies.dtype == torch.float32
    assert exact.abs().mean() > 0.3
    assert 1e-6 < error(energies, exact) < bound
    if labels:
        every, exact = (n.label_energies(x, labels).detach() for n in (low, network))
        assert every.dtype == torch.float32
        assert 1e-6 < error(every, exact) < bound
    weights = torch.randn(16, generator=generator)
    by_weights = [
        flat(torch.autograd.grad((weights * n(x, label)).sum(), list(n.parameters()), materialize_grads=True))
        for n in (low, network)
    ]
    by_image = [energy_gradient(lambda x, n=n: n(x, label), x) for n in (low, network)]
    for mine, exact in (by_weights, by_image):
        assert mine.dtype == torch.float32
        assert 1e-4 < error(mine, exact) < 5 * ROUNDING


def test_a_bf16_run_takes_a_step_close_to_that_of_fp32():
    seen = {}
    for precision in ("fp32", "bf16"):
        made = trainer("sampler.step_size=0.1", "optimizer.ema=0.5", form=Form(precision))
        with torch.no_grad():
            made.network.scales[0].head.weight.mul_(200)  # energies of about -1.5
        gradients = gradients_of(made)
        values = next(fit(made)).values
        seen[precision] = values["energy_data"], flat(gradients[0])
        kept = [*made.parameters, *made.ema.parameters(), *gradients[0]]
        kept += [state[name] for state in made.optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
        assert {tensor.dtype for tensor in kept} == {torch.float32}
    (exact, gradient), (low, rounded) = seen["fp32"], seen["bf16"]
    assert abs(exact) > 1
    assert low != exact
    assert low == pytest.approx(exact, rel=1e-3)
    assert 1e-4 < error(rounded, gradient) < ROUNDING
