"""The figures that the paper draws about a model, as PNG files in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ebmctl.config.schema import EVAL_SCORE
from ebmctl.evaluation.chains import Chains, NotDrawnError
from ebmctl.evaluation.curves import DPI, png
from ebmctl.evaluation.extractors import Extractor
from ebmctl.evaluation.images import EvaluationImages
from ebmctl.evaluation.nearest import Neighbours, flat, memorisation
from ebmctl.evaluation.panels import around, save_columns, save_grids
from ebmctl.evaluation.pixels import spread
from ebmctl.evaluation.results import Metric
from ebmctl.files import atomic_file, user_path
from ebmctl.models.metrics import ALONE, DIFFERENCE, FILE, Group, Metrics
from ebmctl.models.model import Model

CHAINS, AROUND, DESCENDED, NEAREST, ROWS = 8, 24, 25, 4, 8
DESCENT_STEPS = 1000

Log = Callable[[str], None]


class PaperFigures:
    """Draws what it can into a folder; of what it cannot, `log` is told why."""

    def __init__(self, model: Model, folder: Path, log: Log, label: str | None = None, seed: int = 0) -> None:
        self.model, self.folder, self.log, self.label, self.seed = model, folder, log, label, seed
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
            self.log(f"without {names}: there is no metrics.jsonl, give a run folder")
            return
        known = Metrics.read(metrics)

        def curves(title: str, names: Mapping[str, str]) -> Callable[[Path], None]:
            def draw(path: Path) -> None:
                group = Group(title, {name: known.series(key) for name, key in names.items()})
                if any(len(set(series.steps)) < 2 for series in group.series.values()):
                    raise NotDrawnError(f"{metrics} has no {' and '.join(names.values())}")
                with atomic_file(path) as temporary:
                    temporary.write_bytes(png(group, dpi=2 * DPI))

            return draw

        gradients = {"contrastive": "gradient_cd", "KL": "gradient_kl"}
        self._draw("energy-difference.png", curves(ALONE[DIFFERENCE], {"difference": DIFFERENCE}))
        self._draw("gradients.png", curves("norm of the losses' gradients", gradients))
        self._draw("score.png", curves(ALONE[EVAL_SCORE], {"score": EVAL_SCORE}))

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
            self.log(f"without {name}: {error}")
        else:
            self.written.append(str(path))


def metrics_of(reference: str) -> Path | None:
    """The metrics.jsonl of a run folder, or of the run whose model folder it is."""
    path = user_path(reference)
    return next((p for p in (path / FILE, path.parent / FILE) if p.is_file()), None)
