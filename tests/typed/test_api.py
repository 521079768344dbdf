"""The Python interface, typed: mypy checks this file as strictly as the package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import ebmctl
from ebmctl.config.recipe import resolve
from ebmctl.errors import UsageError
from ebmctl.models.folder import ModelConfig, build_network, save_model

TINY = (
    "data.size=8 data.channels=1 network.width=4 network.blocks=[0] network.multipliers=[1] network.scales=1 "
    "network.attention=0 sampling.rounds=1 sampling.steps=2 sampling.final_steps=2 augment.enabled=false"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = ModelConfig(resolve("noise", None, TINY.split(), {}), (), {"steps": 0})
    save_model(tmp_path / "model", config, build_network(config.recipe.network, 1, 0).state_dict(), "# card\n")
    return tmp_path / "model"


def test_load_sample_and_compose(folder: Path) -> None:
    model: ebmctl.Model = ebmctl.load(folder)
    x: Tensor = ebmctl.sample(model, n=3, seed=0)
    assert tuple(x.shape) == (3, *model.shape)
    assert 0 <= x.min() <= x.max() <= 1
    assert torch.equal(x, ebmctl.sample(model, n=3, seed=0))
    energies: Tensor = model.energy(x)
    assert energies.shape == (3,)
    assert torch.allclose(model.terms(x).sum(1), energies)
    both: ebmctl.Energy = ebmctl.product(model, model)
    either: ebmctl.Energy = ebmctl.mixture(model.given(), model)
    assert torch.allclose(both(x), 2 * energies, atol=1e-5)
    assert torch.allclose(either(x), energies - torch.tensor(2.0).log(), atol=1e-5)
    assert torch.allclose(ebmctl.product(model, ebmctl.negate(model, weight=1.0))(x), torch.zeros(3), atol=1e-5)
    y = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(both(y).sum(), y)
    assert gradient.any()


def test_another_sampler(folder: Path) -> None:
    model = ebmctl.load(folder)
    usual = ebmctl.sample(model, n=2)
    still = ebmctl.sample(model, n=2, rounds=0, final_steps=3, sampler="langevin", sampler_options={"noise": 0.0})
    assert not torch.equal(usual, still)
    with pytest.raises(UsageError, match="unknown sampler 'lanjevin': did you mean 'langevin'"):
        ebmctl.sample(model, n=2, sampler="lanjevin")
    with pytest.raises(UsageError, match=r"did you mean 'sampler\.noise'"):
        ebmctl.sample(model, n=2, sampler_options={"nois": 0.0})
    with pytest.raises(UsageError, match=r"sampler\.noise must be a number"):
        ebmctl.sample(model, n=2, sampler_options={"noise": "much"})


def test_a_sampler_that_reports(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reports of its steps is given to who asks for it."""
    from ebmctl.core import langevin
    from ebmctl.core.noise import seeded
    from ebmctl.models.sampling import draw

    class Reported(langevin.Langevin):
        def report(self) -> dict[str, float]:
            return {"acceptance": 0.5}

    monkeypatch.setattr(langevin, "Langevin", Reported)
    model = ebmctl.load(folder)
    found: list[dict[str, float]] = []

    def kept() -> Generator[Tensor, None, None]:
        found.append((yield from draw(model.fixed(), model.recipe.sampling_plan(), 2, seeded(0))))

    assert [tuple(frame.shape) for frame in kept()] == [(2, 1, 8, 8)] * 3
    assert found == [{"acceptance": 0.5}]


def test_names() -> None:
    assert {"load", "sample", "product", "mixture", "negate", "Model", "hookimpl"} <= set(dir(ebmctl))
    assert all(getattr(ebmctl, name) is not None for name in dir(ebmctl))
    assert (Path(ebmctl.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        _ = ebmctl.laod
    program = "import sys, ebmctl; dir(ebmctl); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
