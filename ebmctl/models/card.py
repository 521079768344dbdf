"""The model card of a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from ebmctl.config.dataset import DatasetName
from ebmctl.config.schema import Recipe
from ebmctl.files import user_path
from ebmctl.models.folder import ModelConfig

CARD = """\
---
library_name: ebmctl
license: {licence}
tags: [energy-based-model, contrastive-divergence, image-generation]
---
# An energy-based model of {name}

E(x) for images of {channels} x {size} x {size} in [0, 1]; p(x) is proportional to exp(-E(x)). {about}

{made}

    ebmctl sample {folder} -n 64 -o samples.png

```toml
{recipe}```

The method is that of Du, Li, Tenenbaum and Mordatch, "Improved Contrastive Divergence Training of Energy-Based Models"
(ICML 2021).
"""


def model_card(config: ModelConfig) -> str:
    """The README.md of a model folder: what it is, how to use it, its recipe."""
    data = config.recipe.data
    return CARD.format(
        name=data.dataset.public,
        channels=data.channels,
        size=data.size,
        about=config.recipe.about,
        licence=licence_of(config),
        made=how_made(config),
        folder="PATH-OF-THIS-FOLDER",
        recipe=tomli_w.dumps(config.recipe.to_mapping()),
    )


def public_reference(reference: str) -> str:
    """What a command names, a model or a dataset, as others may see it: of a path its name alone.

    A model folder within a run goes by the run's name. Names of the zoo and of the Hub stay as they are.
    """
    if (dataset := DatasetName.parse(reference)).kind != "registered":
        return f"{dataset.public}:DIR"
    path = user_path(reference)
    try:
        if reference == Path(reference).name or not (path.exists() or path.is_absolute()):
            return reference
        path = path.resolve()
    except (OSError, ValueError):  # of a name that no file can have
        return path.name
    return path.parent.name if path.name == "model" else path.name


def licence_of(config: ModelConfig) -> str:
    """The licence of the weights as the Hub names it: of the authors' own, which have none, "unknown"."""
    return "unknown" if "imported" in config.provenance else "apache-2.0"


def how_made(config: ModelConfig) -> str:
    """A sentence on where the weights are from."""
    made = config.provenance
    if "imported" in made:
        which = "averaged weights" if str(made.get("weights")).startswith("ema") else "weights"
        return f"Imported by ebmctl {made.get('ebmctl')} from a checkpoint of the paper's authors ({which})."
    return f"Trained with ebmctl {made.get('ebmctl')}: {made.get('steps')} steps in {made.get('seconds')} s."


def without_paths(document: dict[str, Any]) -> dict[str, Any]:
    """A configuration without this machine's paths: of images, of the initial model, of an extractor."""
    recipe = document["recipe"]
    data, run = recipe["data"], recipe["run"]
    kept = {**recipe, "data": {**data, "name": DatasetName.parse(data["name"]).public}}
    if run.get("init"):
        kept["run"] = {**run, "init": Path(run["init"]).name}
    if recipe.get("eval", {}).get("extractor"):
        kept["eval"] = {**recipe["eval"], "extractor": Path(recipe["eval"]["extractor"]).name}
    return {**document, "recipe": kept, **({"dataset": kept["data"]["name"]} if "dataset" in document else {})}


def public_recipe(recipe: Recipe) -> str:
    """A recipe as TOML, without this machine's paths."""
    return tomli_w.dumps(without_paths({"recipe": recipe.to_mapping()})["recipe"])
