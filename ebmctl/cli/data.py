"""`ebmctl data`: prepare datasets for training."""

from __future__ import annotations

from pathlib import Path

import typer

from ebmctl.cli import console, options
from ebmctl.config.dataset import USUAL_SHAPE, DatasetName

app = typer.Typer(help="Prepare datasets for training.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    pass


@app.command("prepare")
def prepare(
    source: str = typer.Argument(..., help="Name of a dataset, or folder:PATH.", metavar="SOURCE"),
    out: Path = typer.Option(..., help="Folder of shards to write, or to continue.", metavar="DIR"),
    size: int | None = typer.Option(None, help="Height and width of the images.", metavar="PIXELS"),
    channels: int | None = typer.Option(None, help="1 for grey, 3 for colour.", metavar="1|3"),
    split: str = typer.Option("train", help="Split to prepare.", metavar="train|test"),
    data_dir: Path | None = options.DATA_DIR,
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Decode images once, into shards that training reads quickly: ebmctl train shards:DIR."""
    with console.guard(debug):
        console.choice("--split", split, ["train", "test"])
        name = DatasetName.parse(source).checked()
        own_size, own_channels = name.native_shape or USUAL_SHAPE
        from ebmctl.config.conversion import build
        from ebmctl.config.schema import DataConfig
        from ebmctl.data.base import DataRequest
        from ebmctl.data.datasets import default_root, open_dataset
        from ebmctl.data.shards import write_shards

        wanted = build(DataConfig, {"size": size or own_size, "channels": channels or own_channels}, "")
        request = DataRequest(
            "test" if split == "test" else "train", data_dir or default_root(), wanted.size, wanted.channels
        )
        dataset = open_dataset(name, request)
        written = 0
        shape = (wanted.channels, wanted.size, wanted.size)
        for written in write_shards(dataset, f"{source} ({split})", out, shape):
            console.say(f"{written:,} of {len(dataset):,} images")
        console.show({"output": str(out), "images": len(dataset), "new": bool(written)}, as_json)
