"""Sphinx configuration; it also writes the pages that come from the program itself."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import ebmctl
from ebmctl.config import builtins, conversion, recipe, registry, schema
from ebmctl.core.config import FlowConfig, SampleConfig

os.environ["EBMCTL_PLUGINS"] = ""  # what ships, whatever is installed here
project = "ebmctl"
author = copyright = "The ebmctl authors"
version = release = ebmctl.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["dollarmath", "colon_fence"]
html_theme = "furo"
html_title = "ebmctl"
exclude_patterns = ["_build"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "code"
nitpicky = False

GENERATED = Path(__file__).parent / "_generated"
ZOO = [["zoo", command] for command in ("list", "show", "pull", "verify", "import")]


def options_table(section: str, config: type, title: str) -> str:
    """The keys of a section of a recipe, with the dataclass's own words."""
    text = " ".join((config.__doc__ or "").split())
    rows = [
        f"| `{section}.{f.name}` | `{conversion.plain({'x': f.default})['x']!r}` |" for f in dataclasses.fields(config)
    ]
    return "\n".join([f"## {title}", "", text, "", "| key | default |", "|---|---|", *rows, ""])


def recipe_keys() -> str:
    """All keys of all sections, and for the parts with names those of each that ships."""
    parts = {"network": "architecture", "objective": "objective", "sampler": "sampler", "augment": "augmentation"}
    tables = [options_table("data", schema.DataConfig, "data")]
    for section, kind in parts.items():
        for name in registry.entries(kind):
            config = registry.find(kind, name).load_options()
            tables.append(options_table(section, config, f'{section}, name = "{name}"'))
    others: dict[str, type] = {"flow": FlowConfig, "sampling": SampleConfig}
    others |= {"optimizer": schema.OptimizerConfig, "run": schema.RunConfig, "guard": schema.GuardConfig}
    return "\n".join([*tables, *(options_table(section, config, section) for section, config in others.items())])


def recipe_list() -> str:
    """The recipes that ship."""
    lines = [f"| `{name}` | {recipe.read(name)['about']} |" for name in recipe.bundled()]
    return "\n".join(["| recipe | what it is |", "|---|---|", *lines, ""])


def dataset_list() -> str:
    """The datasets that ship."""
    rows = []
    for each in builtins.DATASETS:
        shape = "any" if each.shape is None else f"{each.shape[1]} x {each.shape[0]} x {each.shape[0]}"
        rows.append(f"| `{each.name}` | {each.about} | {shape} |")
    return "\n".join(["| name | what it is | shape |", "|---|---|---|", *rows, ""])


def help_text() -> str:
    """The help of the program and of each command."""
    blocks = []
    for command in (
        [],
        ["train"],
        ["sample"],
        ["ood"],
        ["compose"],
        ["push"],
        *ZOO,
        ["evaluate"],
        ["data", "prepare"],
        ["plugins"],
        ["plugins", "new"],
    ):
        shown = subprocess.run(
            [sys.executable, "-m", "ebmctl", *command, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        )
        title = " ".join(["ebmctl", *command])
        blocks.append(f"## {title}\n\n```text\n{shown.stdout}```\n")
    return "\n".join(blocks)


GENERATED.mkdir(exist_ok=True)
for name, text in {
    "keys": recipe_keys(),
    "recipes": recipe_list(),
    "datasets": dataset_list(),
    "help": help_text(),
}.items():
    path = GENERATED / f"{name}.inc"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
