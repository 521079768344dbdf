"""The parts of the documentation that come from the program are up to date, whole, and read without Sphinx."""

from __future__ import annotations

import dataclasses
import re
from typing import Annotated

import pytest

import ebmctl
from docs import generate
from docs.generate import api, commands, keys, markdown
from ebmctl.config import builtins, recipe, registry
from ebmctl.config.schema import Recipe
from ebmctl.core.ranges import Checked, Count, OneOf, Range, Share, ranges
from tests.test_run import images, trainer

REFERENCE = generate.DOCS / "reference.md"


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_what_is_committed_is_what_the_program_says(page):
    text = page.read_text(encoding="utf-8")
    assert generate.remade(text) == text, f"{page.name} is not up to date: run `make reference` and commit what changes"
    assert text.count("<!-- BEGIN ") == text.count("<!-- END -->") == len(generate.PART.findall(text))


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_pages_read_whole_without_sphinx(page):
    """No directives, roles or links without a text: a code host shows none of them."""
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r"^(?:```|:::)\{.*|^\.\. \w+::.*|\[\]\(.*?\)|\{\w+\}`", text, re.M)


@pytest.mark.parametrize("page", generate.pages(), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for path, heading in re.findall(r"\]\(([\w-]+\.md)?(?:#([\w-]+))?\)", page.read_text(encoding="utf-8")):
        target = (generate.DOCS / path if path else page).read_text(encoding="utf-8")
        titles = re.findall(r"^#+ (.*)", target, re.M)
        assert not heading or heading in map(keys.anchor, titles), f"{path}#{heading}"


@pytest.mark.parametrize("section", [*keys.all_sections()], ids=lambda section: section.title)
def test_every_key_has_a_meaning_and_is_in_the_reference(section):
    told, text = keys.meanings(section.config), REFERENCE.read_text(encoding="utf-8")
    for field in dataclasses.fields(section.config):
        assert told.get(field.name), f"write a text under {section.config.__name__}.{field.name} that says what it is"
        assert f"| `{section.key}.{field.name}` |" in text


def test_sections_are_all_that_a_recipe_has():
    made = [section.key for section in keys.all_sections()]
    assert set(made) == {field.name for field in dataclasses.fields(Recipe)} - {"about"}
    assert keys.meanings(Recipe).keys() == {field.name for field in dataclasses.fields(Recipe)}
    for section, kind in recipe.PARTS.items():
        assert made.count(section) == len(registry.entries(kind))


@dataclasses.dataclass(frozen=True)
class Base(Checked):
    """Keys of all kinds."""

    steps: Count = 1
    """First."""
    share: Share = 0.5
    """Second | with
    two lines."""
    sizes: tuple[Annotated[int, Range(2)], ...] = (2, 3)
    """Third."""
    channels: Annotated[int, OneOf((1, 3))] = 3
    """Fourth."""


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    """One of them again."""

    steps: int = 20
    flag: bool = True
    """Fifth."""


def test_keys_tell_type_range_default_and_meaning():
    assert list(keys.rows(keys.Section("a", Derived))) == [
        ["`a.steps`", "whole number, at least 1", "`20`", "First."],
        ["`a.share`", "number, between 0 and 1", "`0.5`", "Second | with two lines."],
        ["`a.sizes`", "list of whole numbers, each at least 2", "`[2, 3]`", "Third."],
        ["`a.channels`", "1 or 3", "`3`", "Fourth."],
        ["`a.flag`", "`true` or `false`", "`true`", "Fifth."],
    ]
    assert markdown.table(["a", "b"], [["x | y", ""]]) == "| a | b |\n|---|---|\n| x \\| y |  |"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"share": 1.5}, "share must be between 0 and 1, not 1.5"),
        ({"share": float("nan")}, "share must be between 0 and 1, not nan"),
        ({"sizes": (2, 1)}, "each of sizes must be at least 2, not 1"),
        ({"channels": 2}, "channels must be 1 or 3, not 2"),
    ],
)
def test_ranges_are_checked(values, message):
    for config in (Base, Derived):  # also where a key is told again without its range
        with pytest.raises(ValueError, match=message):
            config(**values)


def test_ends_of_ranges():
    assert [x for x in (0, 0.5, 1) if x in Range(above=0, most=1)] == [0.5, 1]
    assert [x for x in (0, 0.5, 1) if x in Range(0, under=1)] == [0, 0.5]
    assert float("nan") not in Range(most=1)
    assert [str(Range(above=0, most=1)), str(Range(0, under=1)), str(Range(above=0))] == [
        "above 0 and at most 1",
        "at least 0 and under 1",
        "above 0",
    ]
    assert ranges(Derived).keys() == {"steps", "share", "sizes", "channels"}


def test_what_ships_is_in_the_reference():
    text = REFERENCE.read_text(encoding="utf-8")
    names = [dataset.name for dataset in builtins.DATASETS] + recipe.bundled()
    assert all(f"| `{name}` |" in text for name in names)
    words = [" ".join(["ebmctl", *each]) for each in commands.known()]
    assert len(words) > 15
    assert all(f"### {name}\n\n```text\nUsage: {name} " in text for name in words)


def test_public_names_are_told():
    text = (generate.DOCS / "python.md").read_text(encoding="utf-8")
    assert [name for name in ebmctl.__all__ if f"`ebmctl.{name}`" not in text] == []


def test_signatures_are_as_written():
    def draw(x: int, *, how: str = "a", then: type = int) -> str:
        """Nothing."""
        return how

    assert api.head("draw", draw) == 'def draw(x: int, *, how: str = "a", then: type = int) -> str'
    long = api.head("d" * 90, draw)
    assert long.splitlines()[1:] == [
        "    x: int,",
        "    *,",
        '    how: str = "a",',
        "    then: type = int,",
        ") -> str",
    ]
    assert markdown.item("word " * 23 + "and - dash").splitlines()[1] == "  and - dash"


OBJECTIVES = {
    "icd": ["objective.entropy_after=1"],
    "cd": ["objective.name=cd"],
    "energy-matching": [
        *("objective.name=energy-matching", "objective.cd_weight=0.01", "objective.steps=1"),
        *("objective.label_weight=0.1", "data.label=class"),
    ],
}


@pytest.fixture(scope="module")
def logged() -> dict[str, set[str]]:
    """What two steps with each objective write to metrics.jsonl."""
    found = {}
    for name, changes in OBJECTIVES.items():
        made = trainer(*changes, data=images(("a", "b") if "data.label=class" in changes else ()))
        batches = made.batches()
        found[name] = {key for _ in range(2) for key in made.train_step(next(batches)).values}
    return found


def test_metrics_are_in_the_reference(logged):
    assert set(logged) == set(registry.entries("objective"))
    text = REFERENCE.read_text(encoding="utf-8").partition("## Metrics")[2].partition("## JSON results")[0]
    told = {name for row in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert told == set().union(*logged.values()) | {"sampler_NAME", "eval_distance", "eval_score"}
