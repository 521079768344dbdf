"""Bits per dimension of models whose distribution is known."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest
import torch

from ebmctl.config.recipe import resolve
from ebmctl.core.ais import AisConfig, LogZ
from ebmctl.core.energy import EnergyNetwork
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation.likelihood import Likelihood, LikelihoodSettings, bits_per_dimension
from ebmctl.models.folder import ModelConfig
from ebmctl.models.model import Model
from tests.core.quadratic import Quadratic

SIZE, MEAN, STD = 16, 0.5, 0.08
FEW = AisConfig(chains=32, levels=150)


def model(network: EnergyNetwork) -> Model:
    recipe = resolve("noise", None, ["data.size=4", "data.channels=1"], {})
    return Model(ModelConfig(recipe, (), {}), network)


def images(n: int) -> torch.Tensor:
    """Exact draws of the quadratic model, as 8-bit images."""
    x = MEAN + STD * torch.randn((n, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    return (x * 256).floor().clamp(0, 255).byte()


def test_bits_of_a_gaussian_are_its_entropy():
    """At the temperature T the energy k |x - m|^2 / 2 is a Gaussian of the variance T / k."""
    temperature = 0.01
    settings = LikelihoodSettings(temperature, ais=FEW)
    found = Likelihood(model(Quadratic(temperature / STD**2, torch.full((1, 4, 4), MEAN))), settings)
    truth = SIZE * math.log(STD * math.sqrt(2 * math.pi))
    assert found.log_z.low <= truth <= found.log_z.high
    entropy = math.log2(256 * STD * math.sqrt(2 * math.pi * math.e))
    bits = found.bits(torch.split(images(400), 128))
    assert bits.low <= entropy <= bits.high
    assert bits.value == pytest.approx(entropy, abs=0.1)
    assert bits.n == 400
    assert bits.temperature == found.described().temperature == temperature


def test_a_flat_energy_has_eight_bits():
    found = Likelihood(model(Quadratic(0.0, torch.zeros(1, 4, 4))), LikelihoodSettings(ais=AisConfig(4, 5)))
    assert found.log_z.low == found.log_z.high == 0
    assert found.bits([images(3)]).value == 8
    alone = found.bits([images(1)])
    assert (alone.value, alone.low, alone.high) == (8, None, None)


def test_images_are_dequantised_by_noise_of_one_grey_level():
    """Black images under a linear energy of 256 a: their mean energy is a / 2 a value with noise, and 0 without."""

    class Linear(EnergyNetwork):
        def __init__(self, slope: float) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(slope))

        def terms(self, x: torch.Tensor, label: torch.Tensor | None = None) -> torch.Tensor:
            return self.slope * x.flatten(1).sum(1, keepdim=True)

    found = Likelihood(model(Linear(256.0 * 3)), LikelihoodSettings(ais=AisConfig(4, 5)))
    black = torch.zeros(300, 1, 4, 4, dtype=torch.uint8)
    bits = found.bits([black[:100], black[100:]])
    nats = (bits.value - 8) * SIZE * math.log(2) - found.log_z.value
    error = 3 * (SIZE / 12) ** 0.5 / 300**0.5  # of the mean of that much uniform noise
    assert nats == pytest.approx(3 * SIZE / 2, abs=3 * error)
    # the interval has the images' own error besides that of log Z
    for end, limit, sign in ((bits.low, found.log_z.low, -1), (bits.high, found.log_z.high, 1)):
        assert end is not None
        off = (end - 8) * SIZE * math.log(2) - limit - nats
        assert off == pytest.approx(sign * 1.96 * error, rel=0.15)


def test_a_constant_added_to_the_energy_changes_nothing():
    energies = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    exact, moved = (LogZ(z, z, z, z, z, 1, 1) for z in (3.0, 3.0 - 10.0))
    assert astuple(bits_per_dimension(energies + 10, moved, 5)) == pytest.approx(
        astuple(bits_per_dimension(energies, exact, 5))
    )


def test_the_interval_holds_that_of_log_z():
    energies = torch.zeros(3, dtype=torch.float64)
    found = bits_per_dimension(energies, LogZ(0, -math.log(2), math.log(2), 0, 0, 1, 1), 1)
    assert [found.low, found.value, found.high] == pytest.approx([7, 8, 9])


def test_errors():
    with pytest.raises(UsageError, match="temperature must be above 0"):
        LikelihoodSettings(0.0)
    broken = model(Quadratic(math.nan, torch.zeros(1, 4, 4)))
    with pytest.raises(EbmctlError, match="NaN or infinite"):
        Likelihood(broken, LikelihoodSettings(ais=FEW))
