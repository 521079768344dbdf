"""`ebmctl ood`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ebmctl.cli import console, options
from ebmctl.config.dataset import DatasetName
from ebmctl.errors import EbmctlError, UsageError

if TYPE_CHECKING:
    from ebmctl.evaluation.ood import Detector

RUNS = Path("runs")

MANY = 10_000  # images of a set, where their number is not known yet


def ood(
    context: typer.Context,
    inside: str = typer.Option(..., "--in", help="In-distribution dataset.", metavar="NAME"),
    outside: list[str] = typer.Option(
        [], "--out", help="Out-of-distribution dataset; may be repeated.", metavar="NAME"
    ),
    images: Path | None = typer.Option(None, help="Score the images in this folder, one by one.", metavar="DIR"),
    csv: Path | None = typer.Option(None, "--csv", help="CSV file to write their scores to.", metavar="FILE"),
    keep: float = typer.Option(0.95, help="Share of in-distribution images below the threshold.", metavar="SHARE"),
    model: str | None = typer.Option(
        None, help="Default: the zoo's model of the in-distribution dataset, or its latest run.", metavar="MODEL"
    ),
    score: str | None = typer.Option(
        None,
        help="Outlier score; default: the one in the model's recipe.",
        metavar="energy|typicality|gradient|scale-N",
    ),
    label: str | None = options.LABEL,
    n: int | None = typer.Option(None, "--n", "-n", help="Use at most this many images of each set.", metavar="N"),
    seed: int = typer.Option(0, help="Random seed of the subsets and the bootstrap.", metavar="N"),
    plot: Path | None = typer.Option(
        None, help="Plot histograms and ROC curves, or the most unusual images.", metavar="FILE"
    ),
    device: str = options.DEVICE,
    compile: str = options.COMPILE,
    data_dir: Path | None = options.DATA_DIR,
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Detect out-of-distribution images."""
    with console.guard(debug):
        options.check_device(device)
        options.check_compile(compile)
        if bool(outside) == bool(images):
            raise UsageError(
                "give out-of-distribution datasets, --out NAME, or a folder of images, --images DIR --csv FILE"
            )
        if bool(images) != bool(csv):
            raise UsageError("--images DIR and --csv FILE go together")
        if n is not None and n < 2:
            raise UsageError(f"--n must be at least 2, not {n}")
        if not 0 < keep < 1:
            raise UsageError(f"--keep must be between 0 and 1, not {keep}")
        known, others = DatasetName.parse(inside).checked(), [DatasetName.parse(name).checked() for name in outside]
        from ebmctl.files import check_writable

        for path in (plot, csv):
            if path is not None:
                check_writable(path)
        detector = _detector(known, model, device, compile, score, label, n, seed, data_dir)
        if images and csv:
            _score_folder(detector, images, csv, keep, plot, as_json)
        else:
            from ebmctl.cli.recorded import command

            _compare(detector, others, plot, command(context), as_json)


def _detector(
    inside: DatasetName,
    model: str | None,
    device: str,
    compile: str,
    score: str | None,
    label: str | None,
    n: int | None,
    seed: int,
    data_dir: Path | None,
) -> Detector:
    try:
        import sklearn  # noqa: F401  # fail before the work, not after it
    except ImportError as error:
        raise EbmctlError("outlier metrics need scikit-learn: pip install 'ebmctl[ood]'") from error
    from ebmctl.data.datasets import default_root
    from ebmctl.evaluation.ood import Detector, Settings
    from ebmctl.models.model import load

    loaded = load(model or _default_model(inside), device).quick(n or MANY, 1, compile, console.say)
    return Detector(loaded, inside, Settings(data_dir or default_root(), score, label, n, seed))


def _default_model(inside: DatasetName) -> str:
    """The zoo's model for a dataset, or its latest run."""
    from ebmctl.models.zoo import default_model
    from ebmctl.training.folder import latest_run

    try:
        chosen = entry.name if (entry := default_model(str(inside))) else str(latest_run(RUNS, inside))
    except EbmctlError as error:
        line = f"the zoo has no model of {inside}, and {RUNS}/ has no run of it; train one: ebmctl train {inside}"
        raise EbmctlError(f"{line}, or give --model MODEL") from error
    console.say(f"using the model {chosen}")
    return chosen


def _compare(detector: Detector, outside: list[DatasetName], plot: Path | None, command: str, as_json: bool) -> None:
    from ebmctl.evaluation.ood import resizing

    for name in (detector.inside, *outside):
        if line := resizing(detector.model, name):
            console.say(line)
    found = []
    for comparison in detector.compare(outside):
        console.say(f"scored {len(comparison.outside.scores):,} images of {comparison.outside.name}")
        found.append(comparison)
    if plot:
        from ebmctl.evaluation.figures import save_separation

        inside, *others = (comparison.outside for comparison in found)
        save_separation(plot, inside, others, detector.score_name)
        console.say(f"histograms and ROC curves are in {plot}")
    console.show_result(detector.result(found, command), as_json)


def _score_folder(detector: Detector, folder: Path, csv: Path, keep: float, plot: Path | None, as_json: bool) -> None:
    from ebmctl.evaluation.folder import score_folder

    result = score_folder(detector, folder, csv, keep, plot, console.say)
    console.show(result, as_json)
