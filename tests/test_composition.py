"""Concepts by name, their composed energy, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from ebmctl.compose.composition import PLAIN, Algebra, Composition, label_values, vocabulary
from ebmctl.compose.expression import parse
from ebmctl.config.recipe import resolve
from ebmctl.core.nets.denoising import DenoisingEnergy
from ebmctl.core.noise import seeded
from ebmctl.data.base import TensorImages
from ebmctl.errors import UsageError
from ebmctl.models.model import load
from ebmctl.models.sampling import draw
from ebmctl.training.folder import RunFolder, snapshot
from ebmctl.training.trainer import Trainer
from tests.test_cli import call

TINY = [
    "network.name=residual",
    "network.width=4",
    "network.blocks=[0]",
    "network.multipliers=[1]",
    "network.scales=1",
    "network.attention=0",
    "flow.steps=2",
]


HEAD = [
    "network.name=denoising",
    "network.widths=[4, 6]",
    "network.label_head=8",
    "flow.steps=2",
    "compose.strength=32",
]


def save(
    folder: Path,
    name: str,
    names: tuple[str, ...],
    label: str,
    size: int = 8,
    exclusive: bool = False,
    changes: list[str] | None = None,
) -> Path:
    """A run folder with a small conditional energy of random weights."""
    changes = changes or [*TINY, f"run.seed={len(name)}"]
    recipe = resolve("faces", None, [*changes, f"data.label={label}", f"data.size={size}"], {})
    pixels = torch.zeros(4, 3, size, size, dtype=torch.uint8)
    made = Trainer(recipe, TensorImages(pixels, torch.zeros(4, len(names)), names, exclusive), Accelerator(cpu=True))
    if (head := made.ema.label_part()) is not None:
        for layer, seed in ((made.ema.out, recipe.run.seed), (head.out, len(name))):
            torch.nn.init.normal_(layer.weight, std=0.1, generator=torch.Generator().manual_seed(seed))
    run = RunFolder.create(folder / name, recipe)
    run.write(snapshot(made, 0.0, None, False))
    return run.path


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("concepts")
    return {
        "glad": save(folder, "glad", ("glad",), "glad"),
        "old": save(folder, "old_one", ("old",), "old"),
        "form": save(folder, "form_it", ("cube", "ball", "cone"), "class", exclusive=True),
        "big": save(folder, "big_one_s", ("big",), "big", size=12),
    }


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> dict[str, Path]:
    """Concepts that add to one energy, and `old`, which adds to another."""
    folder = tmp_path_factory.mktemp("heads")
    return {
        "glad": save(folder, "glad", ("glad",), "glad", changes=HEAD),
        "form": save(folder, "form_it", ("cube", "ball", "cone"), "class", exclusive=True, changes=HEAD),
        "old": save(folder, "old_one", ("old",), "old", changes=[*HEAD, "run.seed=1"]),
    }


def given(path: Path, x: torch.Tensor, row: int | None) -> torch.Tensor:
    """E(x given a label by its index), or with the zero label."""
    model = load(path)
    label = torch.zeros(len(x), len(model.config.labels))
    if row is not None:
        label[:, row] = 1
    with torch.no_grad():
        return model.network(x, label)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def compose(text: str, own: dict[str, Path], algebra: Algebra) -> Composition:
    return Composition(parse(text), vocabulary(None, own, []), algebra)


def test_the_plain_form_adds_whole_energies(own, x) -> None:
    found = compose("glad & 2*old & ~form=ball", own, PLAIN)(x)
    expected = given(own["glad"], x, 1) + 2 * given(own["old"], x, 1) - 0.001 * given(own["form"], x, 1)
    torch.testing.assert_close(found, expected)


def test_the_shared_part_is_counted_once(own, x) -> None:
    found = compose("glad & old=no", own, Algebra(strength=1.5))(x)
    glad, old = ((given(own[name], x, row), given(own[name], x, None)) for name, row in (("glad", 1), ("old", 0)))
    shared = (glad[1] + old[1]) / 2
    torch.testing.assert_close(found, shared + 1.5 * (glad[0] - glad[1] + old[0] - old[1]))


def test_one_concept_of_strength_1_is_its_own_energy(own, x) -> None:
    torch.testing.assert_close(compose("glad", own, Algebra(strength=1))(x), given(own["glad"], x, 1))


@pytest.mark.parametrize("algebra", [Algebra(strength=1.5), PLAIN])
def test_what_concepts_add_to_one_energy_is_added_to_it_once(heads, x, algebra, monkeypatch) -> None:
    composed = compose("glad & form=ball & old=no", heads, algebra)
    rows = {"glad": 1, "form": 1, "old": 0}
    whole = {name: given(heads[name], x, None) for name in rows}
    assert torch.equal(whole["glad"], whole["form"])
    assert not torch.allclose(whole["glad"], whole["old"])
    each = {name: given(heads[name], x, row) - (whole[name] if algebra.shared else 0) for name, row in rows.items()}
    expected = composed.strength * sum(each.values())
    if algebra.shared:
        expected = expected + sum(whole.values()) / 3
    passes = []
    denoised = DenoisingEnergy.denoised
    monkeypatch.setattr(DenoisingEnergy, "denoised", lambda *given: passes.append(1) or denoised(*given))
    leaf = x.clone().requires_grad_()
    found = composed(leaf)
    torch.testing.assert_close(found.detach(), expected)
    assert len(passes) == 2  # one for each energy that others add to
    assert torch.autograd.grad(found.sum(), leaf)[0].abs().min() > 0


def test_or_and_not(own, x) -> None:
    found = compose("form=cube | form=cone | ~glad", own, Algebra(strength=1, or_temperature=0.5, not_weight=0.3))(x)
    form, glad = given(own["form"], x, None), given(own["glad"], x, None)
    parts = [given(own["form"], x, 0) - form, given(own["form"], x, 2) - form, -0.3 * (given(own["glad"], x, 1) - glad)]
    mixed = -0.5 * torch.logsumexp(-torch.stack(parts) / 0.5, 0)
    torch.testing.assert_close(found, (form + glad) / 2 + mixed)


def test_label_values() -> None:
    assert label_values(("not glad", "glad")) == {"yes": "glad", "no": "not glad"}
    assert label_values(("not Male", "Male"), "not Male") == {"yes": "not Male", "no": "Male"}  # female
    assert label_values(("form=cube", "form=ball")) == {"cube": "form=cube", "ball": "form=ball"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("glad & happy", "unknown concept 'happy'; your own has big, form, glad, old"),
        ("form", "'form' has several values; write form=cube or form=ball or form=cone"),
        ("form=sphere", "unknown value of 'form' 'sphere'"),
        ("glad=maybe", "unknown value of 'glad' 'maybe'"),
        ("glad & big", "different sizes can't be combined: glad 3 x 8 x 8, big 3 x 12 x 12"),
    ],
)
def test_what_can_not_be_composed(own, text, message) -> None:
    with pytest.raises(UsageError) as caught:
        compose(text, own, Algebra())
    assert message in str(caught.value)


def test_the_command(own, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    models = [f"--model={name}={path}" for name, path in own.items()]
    status, out, err = call("compose", "glad", "not:old", *models, "-n", "3", "-o", "a.png", "--json", "--seed", "5")
    assert status == 0, err
    result = json.loads(out)
    assert (result["expression"], result["n"], result["seed"]) == ("glad & ~old", 3, 5)
    assert result["models"]["glad"] == load(own["glad"]).sha256()
    text = Image.open(tmp_path / "a.png").text
    assert (text["expression"], text["seed"]) == ("glad & ~old", "5")
    assert result["models"]["old"] in text["models"]
    call("compose", "glad & ~old", *models, "-n", "3", "-o", "b.png", "--seed", "5")
    assert Image.open("a.png").tobytes() == Image.open("b.png").tobytes()
    call("compose", "glad & ~old", *models, "-n", "3", "-o", "c.png", "--seed", "5", "--no-shared")
    assert Image.open("a.png").tobytes() != Image.open("c.png").tobytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["young &"], "at character 8 of the expression: expected a concept"),
        (["young", "--model", "x"], "--model must be NAME=MODEL"),
        (["young", "-o", "a.txt"], "must end in .png"),
        (["young", "-n", "0"], "at least 1"),
        (["young", "--family", "cats"], "unknown family 'cats'"),
        (["young", "--strength", "0"], "must be above 0"),
    ],
)
def test_bad_input(here, arguments, message) -> None:
    status, out, err = call("compose", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_an_error_points_to_its_place_on_the_terminal(here) -> None:
    lines = call("compose", "young & (female | $)")[2].splitlines()
    assert lines[1].index("$") == lines[2].index("^")


def test_without_a_strength_it_is_what_the_recipe_says(own, heads, x) -> None:
    assert compose("glad", heads, Algebra()).strength == 32
    assert compose("glad", own, Algebra()).strength == 4  # the faces recipe's
    assert compose("glad", own, Algebra()).or_temperature == 1 / 16
    assert compose("glad", own, PLAIN).strength == compose("glad", own, PLAIN).or_temperature == 1
    found, weaker = (compose("glad & old", own, Algebra(strength=s)) for s in (None, 4))
    assert torch.equal(found(x), weaker(x))
    assert found.described()["algebra"]["strength"] == 4


def test_concepts_that_nobody_has_published_are_those_of_a_named_family_only(here) -> None:
    concept = 'kind = "concept"\nfamily = "celebahq"\nconcept = "hat"\nlabel = "Wearing_Hat"'
    entry = '[models."residual.hat"]\ndataset = "celebahq"\nshape = [3, 128, 128]\nrecipe = "celebahq128"'
    (here / "zoo.toml").write_text(f"{entry}\n{concept}\n")
    status, _, err = call("compose", "young", "hat")
    assert (status, "unknown concept 'hat'; faces has" in err) == (2, True), err
    status, _, err = call("compose", "young", "hat", "--family", "celebahq")
    assert (status, "is unpublished" in err) == (1, True), err


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flow_steps": 0, "rounds": 2, "steps": 1, "final_steps": 1},
        {"flow_steps": 7, "rounds": 0, "final_steps": 0},
        {"flow_steps": 45, "rounds": 1, "steps": 1, "final_steps": 0},
    ],
)
def test_how_many_frames_there_will_be(own, changes):
    composed = Composition(parse("glad"), vocabulary(None, own, ["glad"]), Algebra())
    plan = composed.first.recipe.sampling_plan(**changes)
    assert len(list(draw(composed, plan, 2, seeded(0)))) == plan.frames
