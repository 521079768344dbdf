"""The page about a model: what exists is read first, then all is written together with what was computed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import torch

from ebmctl import __version__
from ebmctl.core.noise import seeded
from ebmctl.evaluation.generation import Generation
from ebmctl.evaluation.report.pictures import (
    Chart,
    Picture,
    animation_of,
    chains_shown,
    chart_of,
    picture_in,
    picture_of,
    still_of,
)
from ebmctl.evaluation.results import QualityResult, Result, read_result
from ebmctl.files import atomic_file
from ebmctl.models.card import how_made, public_recipe
from ebmctl.models.metrics import Metrics
from ebmctl.models.model import Model
from ebmctl.models.sampling import draw

SAMPLES, LARGE_SAMPLES, LARGE = 64, 16, 64  # images in the grid: of up to LARGE pixels' width, and larger
UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")  # characters that no page may have
VERSIONS = ("ebmctl", "torch", "python")
IN_SENTENCE = (*VERSIONS, "steps", "seconds")  # which `how_made` has in its sentence
FIGURES = {
    "chains": "Chains over time, starting from noise",
    "one-start": "Chains from one start, without and with augmentation",
    "descent": "Samples, and the same after 1,000 noise-free steps down the energy gradient",
    "nearest": "Samples with their nearest training images",
    "energy-difference": "Energy difference over training",
    "gradients": "Gradients of the losses over training",
    "score": "Inception score over training, by the run's extractor",
}


@dataclass(frozen=True)
class Page:
    """The content of a page."""

    name: str
    model: Model
    samples: Picture
    chain: Picture
    chain_at_rest: Picture
    curves: Sequence[Chart]
    results: Sequence[Result]
    figures: Sequence[Picture] = ()
    commands: Sequence[str] = field(default_factory=list)

    def of(self, kind: str) -> list[Result]:
        """The results of a kind: quality, outliers or composition."""
        return [result for result in self.results if result.kind == kind]

    @property
    def provenance(self) -> list[tuple[str, str]]:
        """Where the weights are from, by names."""
        config, data = self.model.config, self.model.recipe.data
        rows = {
            "dataset": data.dataset.public + (f", {data.label}" if data.label else ""),
            "images": " × ".join(map(str, self.model.shape)),
            "labels": ", ".join(config.labels) or "none (unconditional)",
            "parameters": f"{sum(p.numel() for p in self.model.network.parameters()):,}",
            "network": self.model.recipe.network.name,
            "objective": ", then ".join(dict.fromkeys(phase.objective.name for phase in self.model.recipe.schedule)),
            "made": how_made(config),
        }
        versions = [f"{key} {value}" for key, value in config.provenance.items() if key in VERSIONS]
        provenance = {
            "made with": ", ".join(versions),
            **{
                key.replace("_", " "): _short(value)
                for key, value in config.provenance.items()
                if key not in IN_SENTENCE and value is not None
            },
        }
        checksum = {"SHA-256 of the weights": self.model.sha256() or ""}
        page = {"this page": f"ebmctl {__version__}, torch {torch.__version__}"}
        return [(name, value) for name, value in (rows | provenance | checksum | page).items() if value]

    def html(self) -> str:
        """The page as text, with whatever comes from a file escaped."""
        environment = jinja2.Environment(
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        values: dict[str, Any] = {"page": self, "style": _packed("page.css")}
        values["recipe"] = public_recipe(self.model.recipe)
        return UNFIT.sub("\ufffd", environment.from_string(_packed("page.html.in")).render(values))


class Report:
    """Builds a page; what may fail is done first."""

    def __init__(
        self, model: Model, name: str, generation: Generation, results: Sequence[Path], run_metrics: Path | None
    ) -> None:
        """`name` is the model's as others may see it; `results` join those in a run's folder `evaluation`.

        Raises EbmctlError for a file that is no result of the model's, UsageError for a label that it does not know.
        """
        self.model, self.name, self.generation = model, name, generation
        kept = sorted((model.source.parent / "evaluation").glob("*.json")) if model.source else []
        self.results = [_read(path, model.sha256()) for path in (*kept, *results)]
        model.one_hot(generation.label)  # raises for an unknown label
        self.curves = [chart_of(group) for group in Metrics.read(run_metrics).groups()] if run_metrics else []

    def page(self, result: QualityResult) -> Page:
        """The page with what a command computed and drew, and with all that there was before."""
        _, height, width = self.model.shape
        count = min(self.generation.n, SAMPLES if width <= LARGE else LARGE_SAMPLES)
        moving = min(count, chains_shown(height, width))
        frames = []
        generator = seeded(self.generation.seed, self.model.device)
        for frame in draw(self.model.fixed(self.generation.label), self.generation.plan, count, generator):
            frames.append(frame[:moving].cpu())
            last = frame.cpu()
        data = self.model.recipe.data.dataset.public
        moments = f"{moving} chain{'s' * (moving > 1)} from noise to images"
        own = [replace(result.public(), command=None)] if result.metrics else []
        commands = [self._sample_command(count), *(found.command for found in self.results), result.command]
        return Page(
            name=self.name,
            model=self.model,
            samples=picture_of(last, f"{count} samples from the model of {data}, in a grid"),
            chain=animation_of(frames, moments),
            chain_at_rest=still_of(frames, moments),
            curves=self.curves,
            results=[*own, *self.results],
            figures=[picture_in(path, FIGURES.get(path.stem, path.stem)) for path in map(Path, result.figures or ())],
            commands=[command for command in commands if command],
        )

    def write(self, path: Path, page: Page) -> None:
        """Write the page, whole or not at all."""
        with atomic_file(path) as temporary:
            temporary.write_text(page.html(), encoding="utf-8")

    def _sample_command(self, count: int) -> str:
        words = ["ebmctl", "sample", self.name, "-n", str(count), "--seed", str(self.generation.seed)]
        if self.generation.label is not None:
            words += ["--label", self.generation.label]
        usual = self.model.recipe.sampling_plan().lengths
        for key, value in self.generation.plan.lengths.items():
            words += [f"--{key.replace('_', '-')}", str(value)] if value != usual[key] else []
        return shlex.join([*words, "-o", "samples.png", "--chain", "chain.gif"])


def _read(path: Path, checksum: str | None) -> Result:
    """A result in a file as others may see it, with the command that writes the file, where that is known."""
    result = read_result(path, checksum).public()
    command = result.command if result.command and "--json" in result.command else None
    return replace(result, command=f"{command} > {path.name}" if command else None)


def _short(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)


def _packed(name: str) -> str:
    return (resources.files("ebmctl.evaluation.report") / name).read_text(encoding="utf-8")
