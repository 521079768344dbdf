"""Bundle a run's model with the package: copies its folder, and prints its entry for zoo.toml.

python -m bench.bundle runs/00000-digits residual.digits --alias digits [--family faces --concept smiling]
                       [--recipe NAME] [--set flow.time=1.15]... [--base objects]
python -m bench.bundle FOLDER classifier.digits
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import tomli_w

from ebmctl.config import conversion
from ebmctl.config import recipe as recipes
from ebmctl.files import atomic_folder, read_json, sha256
from ebmctl.models import zoo
from ebmctl.models.card import model_card
from ebmctl.models.classifier import load_classifier
from ebmctl.models.folder import load_model, save_model, unconditional_names
from ebmctl.models.zoo import find_model

FILES = ("config.json", "model.safetensors", "README.md")
LIMIT = 1_500_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("name", help="architecture.dataset")
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--family")
    parser.add_argument("--concept")
    parser.add_argument("--recipe", help="its name, where it is not the dataset's")
    parser.add_argument("--set", action="append", default=[], help="a key of how it is sampled, KEY=VALUE")
    parser.add_argument("--base", help="a newer model of what the labels' head was added to")
    options = parser.parse_args()
    source = find_model(options.model)
    if (size := sum((source / name).stat().st_size for name in FILES)) > LIMIT:
        raise SystemExit(f"{source} has {size / 1e6:.2f} MB, more than {LIMIT / 1e6} MB")
    kind, dataset, shape = describe(source, "concept" if options.concept else "generator")
    folder = options.name.replace(".", "-") if kind == "classifier" else options.name.partition(".")[2]
    with atomic_folder(zoo.PACKAGE / "weights" / folder) as temporary:
        for name in FILES:
            shutil.copyfile(source / name, temporary / name)
        if options.set or options.base:
            change(temporary, options.set, options.base)
        checksum = sha256(temporary / "model.safetensors")
    entry = {
        "kind": kind,
        "bundled": folder,
        "sha256": checksum,
        "dataset": dataset,
        "shape": shape,
        "recipe": options.recipe or dataset,
        **({"aliases": options.alias} if options.alias else {}),
        **({"family": options.family, "concept": options.concept} if options.concept else {}),
    }
    print(tomli_w.dumps({"models": {options.name: entry}}))


def change(folder: Path, assignments: list[str], base: str | None) -> None:
    """Change keys of a model's recipe in a folder, and the weights of what its head was added to.

    The head's training has not seen those weights (`objective.matching_weight` 0), so it fits any.
    """
    config, network = load_model(folder)
    values = config.recipe.to_mapping()
    for text in assignments:
        recipes.merge(values, *conversion.parse_assignment(text))
    changed = replace(config, recipe=recipes.from_mapping(values))
    weights = network.state_dict()
    if base:
        newer = load_model(find_model(base))[1].state_dict()
        names = unconditional_names(config.recipe.network, config.shape[0])
        if (
            newer.keys() != names
            or not config.recipe.run.freeze_init
            or config.recipe.objective.options.matching_weight
        ):
            raise SystemExit(f"{folder.name} is not a head alone, or {base} is no model of its start's kind")
        weights |= newer
    save_model(folder, changed, weights, model_card(changed))


def describe(source: Path, energy: str) -> tuple[str, str, list[int]]:
    """The kind of a model folder, its dataset and the shape of its images."""
    if read_json(source / "config.json").get("kind") == "classifier":
        judge = load_classifier(source).config
        return "classifier", judge.dataset, [judge.channels, judge.size, judge.size]
    config, _ = load_model(source)
    return energy, config.recipe.data.name, list(config.shape)


if __name__ == "__main__":
    main()
