"""Trains one recipe for some seconds and judges its samples; appends a line of JSON. Or shows all lines as a table.

python -m bench.objectives digits RECIPE [--seconds 200] [--seed 0] [--name NAME] [--to bench/objectives.jsonl]
python -m bench.objectives digits --table bench/objectives.jsonl
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from accelerate import Accelerator

import ebmctl
from bench.judge import Judge, auroc, images
from ebmctl.config.recipe import resolve
from ebmctl.models.pictures import save_grid
from ebmctl.training import loop as run
from ebmctl.training.folder import RunFolder
from ebmctl.training.trainer import Trainer, load_data

OUTSIDE = {"digits": ("fashion-mnist", "noise"), "fashion-mnist": ("digits", "noise")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", choices=OUTSIDE)
    parser.add_argument("recipe", nargs="?")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--seconds", type=float, default=200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name")
    parser.add_argument("--to", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--table", type=Path)
    options = parser.parse_args()
    if options.table:
        table(options.table, options.dataset)
        return
    recipe = resolve(options.dataset, options.recipe, options.set, {"run.seed": options.seed})
    with tempfile.TemporaryDirectory() as temporary:
        trainer = Trainer(recipe, load_data(recipe, "train"), Accelerator(cpu=True))
        folder = RunFolder.create(Path(temporary) / "run", recipe)
        *_, last = run.train(trainer, folder, seconds=options.seconds, stopped=lambda: False)
        model = ebmctl.load(folder.path)
    began = time.monotonic()
    samples = ebmctl.sample(model, 512, 0)
    drawn = time.monotonic() - began
    judge = Judge(options.dataset, model.shape[1])
    figures = {
        "dataset": options.dataset,
        "recipe": options.name or options.recipe,
        "seed": options.seed,
        "seconds": options.seconds,
        "threads": torch.get_num_threads(),
        "steps": trainer.step,
        "seconds_for_512_samples": drawn,
        **judge.of_samples(samples),
        **{
            f"auroc_{name}": auroc(model, judge.test, images(name, "test", model.shape[1])[0])
            for name in OUTSIDE[options.dataset]
        },
        "energy_difference": last.energy_difference,
    }
    line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()})
    print(line)
    if options.to:
        with options.to.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    if options.picture:
        save_grid(options.picture, samples[:64])


def table(path: Path, dataset: str) -> None:
    """All runs of a dataset, the figures of the seeds side by side."""
    runs: dict[str, list[dict[str, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        if values["dataset"] == dataset:
            runs.setdefault(values["recipe"], []).append(values)
    outside = OUTSIDE[dataset][0]
    columns = ["steps", "confidence", "smallest_class", "feature_distance", f"auroc_{outside}"]
    print(f"| objective | {' | '.join(c.replace('_', ' ') for c in columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for recipe, lines in runs.items():
        cells = [" / ".join(f"{line[c]:.3g}" for line in lines) for c in columns]
        print(f"| {recipe} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
