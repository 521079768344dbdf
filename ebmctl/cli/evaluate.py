"""`ebmctl evaluate`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ebmctl.cli import console, options
from ebmctl.config.dataset import DatasetName
from ebmctl.errors import UsageError

if TYPE_CHECKING:
    from ebmctl.evaluation.results import QualityResult

QUALITY = ("fid", "is", "kid", "prc")
METRICS = (*QUALITY, "bits")
SPLITS = ("train", "test")
MOST_LEVELS = 1_000_000  # each is a step of all chains
DEFAULT = ",".join(QUALITY)


def evaluate(
    context: typer.Context,
    model: str | None = typer.Argument(
        None, help="A model or run folder, a name in the zoo, or USER/REPO.", metavar="MODEL"
    ),
    metrics: str | None = typer.Option(
        None,
        help="fid, is, kid, prc (precision, recall), bits. Default: all but bits; with --report or --figures, none.",
        metavar="LIST",
    ),
    figures: Path | None = typer.Option(None, help="Draw the paper's figures into this folder.", metavar="DIR"),
    report: Path | None = typer.Option(
        None, help="Write everything known about the model as an HTML page.", metavar="FILE.html"
    ),
    results: list[Path] = typer.Option(
        [], help="JSON of ood, evaluate or compose --check for the page; may be repeated.", metavar="FILE"
    ),
    n: int = typer.Option(10_000, "-n", help="Number of images to generate; papers use 50000.", metavar="N"),
    data: str | None = typer.Option(None, help="Dataset to compare with; default: the model's.", metavar="NAME"),
    split: str = typer.Option("train", help="Split of the dataset to compare with.", metavar="train|test"),
    real: int | None = typer.Option(None, help="Use at most this many real images; default: all.", metavar="N"),
    extractor: str | None = typer.Option(
        None,
        help="inception, or a classifier; default: the zoo's classifier of the dataset, else inception.",
        metavar="NAME",
    ),
    inception_weights: Path | None = typer.Option(
        None, help="Inception weights, instead of downloading them.", metavar="FILE"
    ),
    keep: Path | None = typer.Option(
        None, help="Keep the generated images in this folder, and reuse those in it.", metavar="DIR"
    ),
    batch: int = typer.Option(100, help="Images per batch.", metavar="N"),
    label: str | None = options.LABEL,
    flow_steps: int | None = options.FLOW_STEPS,
    rounds: int | None = options.ROUNDS,
    steps: int | None = options.STEPS,
    final_steps: int | None = options.FINAL_STEPS,
    temperature: float = typer.Option(1.0, help="Bits: temperature T of exp(-E / T).", metavar="T"),
    levels: int = typer.Option(500, help="Bits: levels of annealed importance sampling.", metavar="N"),
    chains: int = typer.Option(64, help="Bits: number of annealing chains.", metavar="N"),
    compare: tuple[Path, Path] | None = typer.Option(
        None, help="Compare two results, if they are comparable.", metavar="A.json B.json"
    ),
    device: str = options.DEVICE,
    compile: str = options.COMPILE,
    data_dir: Path | None = options.DATA_DIR,
    seed: int = typer.Option(0, help="Random seed.", metavar="N"),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Evaluate a model: sample quality and likelihood."""
    with console.guard(debug):
        options.check_device(device)
        options.check_compile(compile)
        if (model is None) == (compare is None):
            raise UsageError("give a model, or two results: --compare A.json B.json")
        _check_page(report, results, compare)
        if compare:
            _compare(*compare, as_json)
            return
        assert model is not None
        wanted = _wanted(metrics if metrics is not None else "" if figures or report else DEFAULT)
        console.choice("--split", split, list(SPLITS))
        for option, value, least in (("-n", n, 10), ("--batch", batch, 1), ("--real", real, 10)):
            if value is not None and value < least:
                raise UsageError(f"{option} must be at least {least}, not {value}")
        if levels > MOST_LEVELS:
            raise UsageError(f"--levels must be at most {MOST_LEVELS}, not {levels}")
        if levels < 1 or chains < 2 or not temperature > 0:
            raise UsageError("--levels must be at least 1, --chains at least 2, --temperature above 0")
        named = DatasetName.parse(data).checked() if data is not None else None
        from ebmctl.models.zoo import find_model

        find_model(model)

        from ebmctl.cli.recorded import command
        from ebmctl.core.ais import AisConfig
        from ebmctl.data.datasets import default_root
        from ebmctl.evaluation.evaluate import Evaluation, EvaluationRequest, Reference
        from ebmctl.evaluation.generation import Generation
        from ebmctl.evaluation.likelihood import LikelihoodSettings
        from ebmctl.evaluation.paper_figures import metrics_of
        from ebmctl.evaluation.report.page import Report
        from ebmctl.evaluation.results import QualityResult
        from ebmctl.models.card import public_reference
        from ebmctl.models.model import load

        loaded = load(model, device)
        plan = loaded.recipe.sampling_plan(flow_steps=flow_steps, rounds=rounds, steps=steps, final_steps=final_steps)
        loaded = loaded.quick(batch, math.ceil(n / batch) * plan.gradients, compile, console.say)
        generation = Generation(plan, n, seed, batch, label)
        likelihood = LikelihoodSettings(temperature, label, seed, AisConfig(chains=chains, levels=levels))
        request = EvaluationRequest(
            wanted, generation, likelihood, figures, extractor, inception_weights, keep, metrics_of(model)
        )
        page = Report(loaded, public_reference(model), generation, results, metrics_of(model)) if report else None
        chosen = named or loaded.recipe.data.dataset
        reference = Reference(chosen, data_dir or default_root(), "test" if split == "test" else "train", real, seed)
        with console.TaskProgress() as progress:
            evaluation = Evaluation(loaded, reference, progress, console.say)
            evaluation.run(request)
        result = QualityResult(
            metrics=evaluation.found,
            model=model,
            model_sha256=loaded.sha256(),
            n=n,
            data=str(chosen),
            split=split,
            seed=seed,
            figures=tuple(evaluation.written) if figures else None,
            report=str(report) if report else None,
            command=command(context),
        )
        if page and report:
            console.say("sampling images for the page")
            page.write(report, page.page(result))
        _show(result, as_json)


def _check_page(report: Path | None, results: list[Path], compare: tuple[Path, Path] | None) -> None:
    """Raise UsageError or EbmctlError if the page can't be written."""
    if report is None and results:
        raise UsageError("--results requires --report FILE.html")
    if report is None:
        return
    if compare:
        raise UsageError("--report needs a model; it does not work with --compare")
    if report.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{report}: the page's file name must end in .html")
    from ebmctl.files import check_writable

    check_writable(report)


def _wanted(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")] if text else []
    for name in names:
        console.choice("--metrics", name, list(METRICS))
    return names


def _show(result: QualityResult, as_json: bool) -> None:
    if as_json:
        console.show(result.to_json(), as_json=True)
        return
    if result.metrics:
        table = result.table()
        console.table(table.header, table.rows)
    for path in result.figures or ():
        console.say(f"wrote {path}")
    if result.report:
        console.say(f"wrote the page {result.report}")


def _compare(first: Path, second: Path, as_json: bool) -> None:
    from ebmctl.evaluation.results import compare

    found = compare(first, second)
    if as_json:
        console.show(found.to_json(), as_json=True)
        return
    table = found.table()
    console.table(table.header, table.rows)
