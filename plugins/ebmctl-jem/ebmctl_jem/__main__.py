"""`python -m ebmctl_jem MODEL`: accuracy and calibration on the test split."""

from __future__ import annotations

from pathlib import Path

import typer

from ebmctl.cli import console


def main(
    model: str = typer.Argument(..., help="A model that was trained by the objective jem.", metavar="MODEL"),
    data: str | None = typer.Option(None, help="A labelled set; default: what it was trained on.", metavar="NAME"),
    data_dir: Path | None = typer.Option(None, help="Where datasets are kept (EBMCTL_DATA).", metavar="DIR"),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Accuracy, expected calibration error and log likelihood of a classifier on a test split."""
    with console.guard(debug):
        from ebmctl import load
        from ebmctl.config.dataset import DatasetName
        from ebmctl.data.base import DataRequest
        from ebmctl.data.datasets import default_root, open_dataset
        from ebmctl_jem.evaluate import classify

        loaded = load(model)
        name = DatasetName.parse(data).checked() if data else loaded.recipe.data.dataset
        channels, size, _ = loaded.shape
        request = DataRequest("test", data_dir or default_root(), size, channels)
        dataset = open_dataset(name, request)
        found = classify(loaded, dataset).to_mapping()
        console.show({"model": model, "data": str(name), **found}, as_json)


if __name__ == "__main__":
    typer.run(main)
