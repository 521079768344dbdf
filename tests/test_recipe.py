from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from ebmctl.config import conversion, recipe
from ebmctl.core.config import ResidualConfig
from ebmctl.errors import UsageError


def test_every_bundled_recipe_is_valid_and_round_trips(tmp_path):
    for name in recipe.bundled():
        made = recipe.from_mapping({**recipe.read(name)})
        path = tmp_path / f"{name}.toml"
        path.write_text(tomli_w.dumps(made.to_mapping()))
        assert recipe.from_mapping(conversion.read_toml(path)) == made
        assert made.about


@pytest.mark.parametrize(
    ("name", "size", "step_size"),
    [("cifar10", 32, 500), ("imagenet32", 32, 500), ("celebahq128", 128, 1000), ("lsun-bedroom128", 128, 1000)],
)
def test_the_papers_settings(name, size, step_size):
    made = recipe.from_mapping(recipe.read(name))
    assert made.data.size == size
    assert (made.sampler.options.step_size, made.sampler.options.noise) == (step_size, 0.001)
    assert (made.objective.options.steps, made.objective.options.buffer_size) == (40, 10_000)
    assert made.optimizer.ema == 0.9999
    assert made.augment.options.crop == (0.02 if size == 32 else 0.08)
    assert made.augment.options.color == 1.0
    table_5 = ResidualConfig(64, (1, 1, 1, 1), (1, 2, 4, 8), 2, 3)
    table_6 = ResidualConfig(64, (0, 0, 0, 1, 1), (2, 2, 4, 8, 8), 4, 3)
    assert made.network.options == (table_5 if size == 32 else table_6)


def test_precedence(tmp_path, monkeypatch):
    """Defaults < recipe file < environment < --set < flags."""

    def rate(**keywords):
        arguments = {"recipe": None, "assignments": [], "flags": {}, **keywords}
        return recipe.resolve("noise", **arguments).optimizer.lr

    file = tmp_path / "mine.toml"
    file.write_text("[optimizer]\nlr = 1.0\n")
    assert rate(recipe=str(file)) == 1.0
    monkeypatch.setenv("EBMCTL_SET", "optimizer.lr=2.0 run.seed=3")
    assert rate(recipe=str(file)) == 2.0
    assert rate(recipe=str(file), assignments=["optimizer.lr=3.0"]) == 3.0
    assert rate(recipe=str(file), assignments=["optimizer.lr=3.0"], flags={"optimizer.lr": 4.0}) == 4.0
    assert recipe.resolve("noise", None, [], {}).run.seed == 3


def test_a_dataset_without_a_recipe_has_its_own_shape():
    made = recipe.resolve("folder:somewhere", None, [], {})
    assert (made.data.name, made.data.size, made.data.channels) == ("folder:somewhere", 32, 3)
    assert recipe.resolve("celebahq", None, [], {}).data.size == 128
    assert recipe.resolve("svhn", None, [], {}).network.options.width == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
        ("optimiser.lr=1", "did you mean 'optimizer'"),
        ("optimizer.lr=fast", "optimizer.lr must be a number, not 'fast'"),
        ("optimizer.lr=nan", "optimizer.lr must be a finite number"),
        ("optimizer.lr=-1", "optimizer: lr must be above 0, not -1.0"),
        ("run.steps=1.5", "run.steps must be an integer"),
        ("run.steps=true", "run.steps must be an integer"),
        ("objective.start=bufer", "objective.start must be 'buffer' or 'noise'"),
        ("network.blocks=3", "network.blocks must be a list"),
        ("network.scales=9", "network: scales must be between 1 and"),
        ("network.name=residul", "unknown architecture 'residul': did you mean 'residual'"),
        ("sampler.name=hmc", "unknown sampler 'hmc'"),
        ("optimizer=3", "optimizer is a section"),
        ("optimizer.betas=[0.1]", "optimizer.betas must be a list of 2"),
        ("data.channels=2", "data: channels must be 1 or 3"),
        ("sampling.rounds=-1", "sampling: rounds must be at least 0"),
        ("lr", "--set must be key=value"),
        ("=3", "--set must be key=value"),
        ("run.steps.more=3", "run.steps"),
    ],
)
def test_bad_values_are_named(text, message):
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        recipe.resolve("digits", "digits-icd", ["run.steps=5", text] if "more" in text else [text], {})


def test_unknown_names(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'digits'"):
        recipe.resolve("digit", None, [], {})
    with pytest.raises(UsageError, match="did you mean 'cifar10'"):
        recipe.resolve("digits", "cifar", [], {})
    with pytest.raises(UsageError, match="can't read"):
        recipe.resolve("digits", str(tmp_path / "none.toml"), [], {})
    broken = tmp_path / "broken.toml"
    broken.write_text("[data\n")
    with pytest.raises(UsageError, match="is not a TOML file"):
        recipe.resolve("digits", str(broken), [], {})


@given(st.text(max_size=40), st.text(alphabet=string.printable, max_size=40))
def test_assignments_never_end_in_a_traceback(key, value):
    try:
        recipe.resolve("digits", None, [f"{key}={value}"], {})
    except UsageError as error:
        assert "\n" not in str(error).rstrip("\n") or "\n" in key + value


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.one_of(SCALARS, st.lists(SCALARS)), max_size=5))
def test_toml_round_trip(values):
    document = {"about": "x", "section": values}
    assert conversion.tomllib.loads(tomli_w.dumps(document)) == document


@dataclass(frozen=True)
class Example:
    a: int = 1
    b: float | None = None
    c: Literal["x", "y"] = "x"
    d: tuple[int, ...] = ()


def test_build():
    assert conversion.build(Example, {"b": 2, "d": [1, 2]}, "e") == Example(1, 2.0, "x", (1, 2))
    assert conversion.plain(Example()) == {"a": 1, "c": "x", "d": []}
    with pytest.raises(UsageError, match=r"e\.d must be an integer, not 'x'"):
        conversion.build(Example, {"d": ["x"]}, "e")


def test_another_part_takes_none_of_the_options_of_the_one_before():
    network = recipe.resolve("faces", None, ["network.name=residual", "network.width=4"], {}).network
    assert (network.name, network.options) == ("residual", replace(ResidualConfig(), width=4))
    kept = recipe.resolve("faces", None, ["network.middle=2", "network.name=denoising"], {}).network
    assert (kept.options.widths, kept.options.middle) == ((24, 48, 72), 2)
