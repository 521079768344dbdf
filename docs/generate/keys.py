"""The keys of a recipe, from the dataclasses that it is made of: type, range, default and meaning of each."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from docs.generate import markdown
from ebmctl.config import recipe, registry
from ebmctl.config.schema import Phase, Recipe
from ebmctl.core.ranges import OneOf, ranges

WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}


class Section(NamedTuple):
    """A section of a recipe as a dataclass; of one that chooses by `name`, also the name and what that is."""

    key: str
    config: type
    name: str = ""
    about: str = ""

    @property
    def title(self) -> str:
        """Its heading."""
        return f"{self.key}: {self.name}" if self.name else self.key


def all_sections() -> Iterator[Section]:
    """Every section in a recipe's order, and for those that choose by name one for each choice that ships."""
    for field in dataclasses.fields(Recipe):
        if kind := recipe.PARTS.get(field.name):
            for name, entry in registry.entries(kind).items():
                yield Section(field.name, entry.load_options(), name, entry.about)
        elif field.name in recipe.CONFIGS:
            yield Section(field.name, recipe.CONFIGS[field.name])
        elif field.name == "phases":
            yield Section(field.name, Phase)


def meanings(config: type) -> dict[str, str]:
    """The text that stands under each field of a dataclass, its base classes' included, in one line."""
    found: dict[str, str] = {}
    for base in reversed(config.__mro__):
        if dataclasses.is_dataclass(base):
            (node,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
            assert isinstance(node, ast.ClassDef)
            for field, text in itertools.pairwise(node.body):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    found[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return found


def sections() -> str:
    """All keys: what sections there are, then the keys of each."""
    made = list(all_sections())
    return "\n\n".join([overview(made), *map(described, made)])


def overview(made: list[Section]) -> str:
    """The sections, with links to their keys."""
    rows = []
    for key, meaning in meanings(Recipe).items():
        links = [f"[{each.name or key}](#{anchor(each.title)})" for each in made if each.key == key]
        rows.append([f"`{key}`", meaning, ", ".join(links)])
    return markdown.table(["section", "what it is", "keys"], rows)


def anchor(title: str) -> str:
    """What a code host and Sphinx call a heading in an address."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def described(section: Section) -> str:
    """A section's heading, what it is, and its keys."""
    usual = " The default." if section.name == recipe.DEFAULTS.get(section.key) else ""
    chosen = f'`{section.key}.name = "{section.name}"`: {section.about}.{usual}' if section.name else ""
    text = [f"### {section.title}", chosen, inspect.getdoc(section.config) or ""]
    return "\n\n".join([*filter(None, text), markdown.table(["key", "takes", "default", "meaning"], rows(section))])


def rows(section: Section) -> Iterator[list[str]]:
    """A row for each key of a section; raises KeyError for one without a meaning."""
    told, allowed = meanings(section.config), ranges(section.config)
    kinds = typing.get_type_hints(section.config)
    for field in dataclasses.fields(section.config):
        kind = takes(kinds[field.name])
        if isinstance(bounds := allowed.get(field.name), OneOf):
            kind = str(bounds)
        elif bounds:
            kind += f", {'each ' if kind.startswith('list') else ''}{bounds}"
        default = "" if field.default is dataclasses.MISSING else markdown.code(field.default)
        yield [f"`{section.key}.{field.name}`", kind, default, told[field.name]]


def takes(kind: Any) -> str:
    """A type in words."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return " or ".join(map(markdown.code, arguments))
    if typing.get_origin(kind) is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"list of {count}{WORDS[arguments[0]]}s"
    return WORDS.get(kind, "table")
