"""Tables of what ships."""

from __future__ import annotations

from docs.generate import markdown
from ebmctl.config import builtins, recipe
from ebmctl.config.dataset import DatasetName
from ebmctl.config.schema import Recipe


def datasets() -> str:
    """The datasets, in the order in which they are registered."""
    rows = []
    for each in builtins.DATASETS:
        shape = "any" if each.shape is None else _shape(each.shape[1], each.shape[0])
        rows.append([f"`{each.name}`", each.about, shape, f"`{DatasetName.parse(each.name).recipe}`"])
    return markdown.table(["dataset", "what it is", "shape", "its recipe"], rows)


def recipes() -> str:
    """The recipes, by name."""
    rows = []
    for name in recipe.bundled():
        made = recipe.from_mapping(recipe.read(name))
        shape = _shape(made.data.channels, made.data.size) if "data" in recipe.read(name) else "the dataset's"
        rows.append([f"`{name}`", made.about, shape, made.network.name, _objectives(made), f"{made.run.steps:,}"])
    return markdown.table(["recipe", "what it is", "shape", "network", "objective", "steps"], rows)


def _shape(channels: int, size: int) -> str:
    return f"{channels} x {size} x {size}"


def _objectives(made: Recipe) -> str:
    """The objectives of its phases."""
    return ", then ".join(dict.fromkeys(phase.objective.name for phase in made.schedule))
