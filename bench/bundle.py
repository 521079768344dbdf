"""Bundle a run's model with the package: copies its folder, and prints its entry for zoo.toml.

python -m bench.bundle runs/00000-digits residual.digits --alias digits [--family faces --concept smiling]
"""

from __future__ import annotations

import argparse
import shutil

from ebmctl import settings, zoo
from ebmctl.checkpoint import load_model
from ebmctl.files import atomic_folder, sha256
from ebmctl.zoo import find_model

FILES = ("config.json", "model.safetensors", "README.md")
LIMIT = 1_500_000  # bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("name", help="architecture.dataset")
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--family")
    parser.add_argument("--concept")
    options = parser.parse_args()
    source = find_model(options.model)
    if (size := sum((source / name).stat().st_size for name in FILES)) > LIMIT:
        raise SystemExit(f"{source} has {size / 1e6:.2f} MB, more than {LIMIT / 1e6} MB")
    config, _ = load_model(source)
    folder = options.name.partition(".")[2]
    with atomic_folder(zoo.PACKAGE / "models" / folder) as temporary:
        for name in FILES:
            shutil.copyfile(source / name, temporary / name)
    entry = {
        "kind": "concept" if options.concept else "generator",
        "bundled": folder,
        "sha256": sha256(source / "model.safetensors"),
        "dataset": config.recipe.data.name,
        "shape": list(config.shape),
        "recipe": config.recipe.data.name,
        **({"aliases": options.alias} if options.alias else {}),
        **({"family": options.family, "concept": options.concept} if options.concept else {}),
    }
    print(f'[models."{options.name}"]\n{settings.dump_toml(entry)}')


if __name__ == "__main__":
    main()
