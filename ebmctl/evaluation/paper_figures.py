"""The figures that the paper draws about a model, as PNG files in a folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.config.schema import EVAL_SCORE
from ebmctl.evaluation.chains import Chains, NotDrawnError, spread
from ebmctl.evaluation.extractors import Extractor
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.nearest import Neighbours, flat, memorisation
from ebmctl.evaluation.panels import around, save_columns, save_curves, save_grids
from ebmctl.evaluation.results import Metric
from ebmctl.files import user_path
from ebmctl.models.model import Model

CHAINS, AROUND, DESCENDED, NEAREST, ROWS = 8, 24, 25, 4, 8
DESCENT_STEPS = 1000

Said = Callable[[str], None]


class PaperFigures:
    """Draws what it can into a folder; of what it cannot, `say` hears why."""

    def __init__(self, model: Model, folder: Path, say: Said, label: str | None = None, seed: int = 0) -> None:
        self.model, self.folder, self.say, self.label, self.seed = model, folder, say, label, seed
        self.written: list[str] = []
        self.found: dict[str, Metric] = {}

    def chains(self, samples: Tensor) -> None:
        """Chains over time, from one start, and after a long descent from uint8 samples (Figures 5 to 7)."""
        self._draw("chains.png", self._over_time)
        self._draw("one-start.png", self._one_start)
        self._draw("descent.png", lambda path: self._descent(path, samples[:DESCENDED].float() / 255))

    def nearest(
        self, samples: Tensor, train: EvaluationImages, held_out: EvaluationImages, extractor: Extractor | None
    ) -> None:
        """Nearest training images in pixel and in feature distance, with the memorisation figures (Figure 13)."""
        images = torch.cat(list(train.pixels()))
        others = torch.cat(list(held_out.pixels()))
        spaces: dict[str, Callable[[Tensor], Tensor]] = {"pixel": lambda pixels: flat([pixels])}
        if extractor:
            seen = extractor
            spaces[f"{seen.name} feature"] = lambda pixels: torch.cat([seen(x)[0] for x in torch.split(pixels, 256)])
        columns = [("drawn", samples[:ROWS].float() / 255)]
        for name, look in spaces.items():
            neighbours = Neighbours(look(images))
            rows = look(samples)
            numbers = neighbours.of(rows[:ROWS], NEAREST)[1]
            columns += [(f"{name.split()[-1]} {k + 1}", images[numbers[:, k]].float() / 255) for k in range(NEAREST)]
            values = memorisation(rows, look(others), neighbours, name)
            self.found[f"memorisation ({name} distance)"] = replace(values, data=train.name, split=train.split)
        shares = [f"{v.distance} {v.value:.0%} (held-out {v.held_out:.0%})" for v in self.found.values()]
        title = "\n".join(["Nearest training images", "Memorised, by distance of:", *shares])
        self._draw("nearest.png", lambda path: save_columns(path, columns, title))

    def training(self, metrics: Path | None) -> None:
        """Energy difference, gradient magnitudes and score over training (Figures 8 and 9), from a metrics.jsonl."""
        if metrics is None:
            names = "energy-difference.png, gradients.png and score.png"
            self.say(f"without {names}: there is no metrics.jsonl, give a run folder")
            return
        lines = list(read_lines(metrics))

        def curve(*keys: str) -> tuple[list[int], dict[str, list[float]]]:
            chosen = [line for line in lines if all(key in line for key in keys)]
            if not chosen:
                raise NotDrawnError(f"{metrics} has no {' and '.join(keys)}")
            return [int(line["step"]) for line in chosen], {k: [float(line[k]) for line in chosen] for k in keys}

        def difference(path: Path) -> None:
            save_curves(path, *curve("energy_difference"), ylabel="E(data) - E(samples)", title="Energy difference")

        def gradients(path: Path) -> None:
            steps, values = curve("gradient_cd", "gradient_kl")
            named = {"contrastive": values["gradient_cd"], "KL": values["gradient_kl"]}
            save_curves(
                path, steps, named, ylabel="norm of the gradient", yscale="log", title="Gradients of the losses"
            )

        def score(path: Path) -> None:
            save_curves(path, *curve(EVAL_SCORE), ylabel="Inception score by the run's extractor", title="Score")

        self._draw("energy-difference.png", difference)
        self._draw("gradients.png", gradients)
        self._draw("score.png", score)

    def _over_time(self, path: Path) -> None:
        moments = list(Chains(self.model, self.label, self.seed).over_time(CHAINS))
        save_columns(path, moments, "Chains over time")

    def _one_start(self, path: Path) -> None:
        start, with_, without = Chains(self.model, self.label, self.seed).from_one_start(AROUND)
        panels = [
            (f"{name} augmentation: {spread(images):.3f} apart", around(start, images))
            for name, images in (("without", without), ("with", with_))
        ]
        save_grids(path, panels, "Chains from one start (in the centre)")

    def _descent(self, path: Path, samples: Tensor) -> None:
        after = Chains(self.model, self.label, self.seed).descent(samples, DESCENT_STEPS)
        before, low = (self.model.energy(x, self.label).mean() for x in (samples, after))
        panels = [(f"drawn, energy {before:.3g}", samples), (f"{DESCENT_STEPS:,} steps later, energy {low:.3g}", after)]
        save_grids(path, panels, "Descent of the energy without noise")

    def _draw(self, name: str, draw: Callable[[Path], None]) -> None:
        path = self.folder / name
        try:
            draw(path)
        except NotDrawnError as error:
            self.say(f"without {name}: {error}")
        else:
            self.written.append(str(path))


def metrics_of(reference: str) -> Path | None:
    """The metrics.jsonl of a run folder, or of the run whose model folder it is."""
    path = user_path(reference)
    return next((p for p in (path / "metrics.jsonl", path.parent / "metrics.jsonl") if p.is_file()), None)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics.jsonl; a last one that was cut off by a crash is left out."""
    for text in path.read_text(encoding="utf-8").splitlines():
        if text.endswith("}"):
            yield json.loads(text)
