"""`ebmctl zoo`: models by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ebmctl.cli import console
from ebmctl.errors import EbmctlError, UsageError, unknown

if TYPE_CHECKING:
    from ebmctl.models.zoo import ZooModel

app = typer.Typer(help="List, download and verify named models.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(as_json: bool = console.JSON, debug: bool = console.DEBUG) -> None:
    """List all models, and where they are: bundled, cached, remote or unpublished."""
    with console.guard(debug):
        from ebmctl.models import zoo

        rows = [_described(entry) for entry in zoo.zoo().values()]
        if as_json:
            console.show({"models": rows}, as_json=True)
            return
        header = ["name", "kind", "images", "where", "size", "metrics"]
        console.table(
            header,
            [
                [
                    (row["aliases"] or [row["name"]])[0],
                    row["kind"],
                    "x".join(map(str, row["shape"])),
                    row["where"] + (" (your own)" if row["origin"] else ""),
                    _size(row["bytes"]),
                    "; ".join(f"{metric['name']} {metric['value']:g}" for metric in row["metrics"]),
                ]
                for row in rows
            ],
            text_last=True,
        )


@app.command("show")
def show(
    name: str = typer.Argument(..., help="Name in the zoo.", metavar="NAME"),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Show everything about one model."""
    with console.guard(debug):
        from ebmctl.models import zoo

        entry = zoo.find_entry(name)
        if entry is None:
            raise _unknown(name)
        row = _described(entry)
        if not as_json:
            row["aliases"] = ", ".join(entry.aliases)
            row["shape"] = " x ".join(map(str, entry.shape))
            row["bytes"] = _size(row["bytes"])
            row["metrics"] = "; ".join(f"{m.name} {m.value:g} ({m.command})" for m in entry.metrics)
            row = {key: value for key, value in row.items() if value not in (None, "")}
        console.show(row, as_json)


@app.command("pull")
def pull(
    name: str = typer.Argument(..., help="Name in the zoo, or USER/REPO[@REVISION].", metavar="NAME"),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Download a model into the Hub's cache, and verify it."""
    with console.guard(debug):
        from ebmctl.files import sha256
        from ebmctl.models import hub, zoo

        if entry := zoo.find_entry(name):
            folder = zoo.entry_folder(entry)
        elif repository := hub.parse(name):
            folder = hub.fetch(*repository)
        else:
            raise _unknown(name)
        revision = folder.name if hub.COMMIT.fullmatch(folder.name) else None
        weights = sha256(folder / hub.WEIGHTS)
        result: dict[str, Any] = {"name": name, "folder": str(folder), "revision": revision, "sha256": weights}
        console.show(result if as_json or revision else {k: v for k, v in result.items() if k != "revision"}, as_json)


@app.command("verify")
def verify(as_json: bool = console.JSON, debug: bool = console.DEBUG) -> None:
    """Verify the checksums of all models on this machine."""
    with console.guard(debug):
        from ebmctl.models import zoo

        rows = [_verified(entry) for entry in zoo.zoo().values()]
        if as_json:
            console.show({"models": rows}, as_json=True)
        else:
            cells = [[row["name"], row["where"], row["result"]] for row in rows]
            console.table(["name", "where", "result"], cells, text_last=True)
        if bad := [row["name"] for row in rows if row["ok"] is False]:
            raise EbmctlError(f"{len(bad)} of {len(rows)} models have a wrong checksum: {', '.join(bad)}")


@app.command("import")
def import_(
    file: Path = typer.Argument(..., help="A checkpoint (.pth) of the paper's authors.", metavar="FILE"),
    recipe: str = typer.Option(..., help="Recipe with the checkpoint's data and sampling.", metavar="NAME"),
    out: Path | None = typer.Option(None, "-o", "--out", help="Model folder; default: imported/NAME.", metavar="DIR"),
    weights: str = typer.Option("ema", help="Averaged weights (ema), or the last ones (model).", metavar="ema|model"),
    label: str | None = typer.Option(None, help="Attribute of a conditional checkpoint.", metavar="ATTRIBUTE"),
    allow_partial: bool = typer.Option(False, "--allow-partial", help="Import despite missing or left-over tensors."),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Convert a checkpoint of the paper's authors to a model folder; no code in it is run."""
    with console.guard(debug):
        console.choice("--weights", weights, ["ema", "model"])
        from ebmctl.config import recipe as recipes

        recipes.read(recipe)
        target = out or Path("imported") / Path(recipe).stem
        if target.exists():
            raise EbmctlError(f"{target} already exists; choose another --out")
        from ebmctl.authors.importing import import_checkpoint
        from ebmctl.models.card import model_card
        from ebmctl.models.folder import save_model

        made = import_checkpoint(file, recipe, "ema" if weights == "ema" else "model", label)
        found = made.found
        for what, names in (("missing", found.missing), ("left over", found.unexpected)):
            for name in names:
                console.say(f"{what}: {name}")
        if (found.missing or found.unexpected) and not allow_partial:
            raise EbmctlError(
                f"{file} does not match the {found.kind} network: {len(found.missing)} tensors are missing and "
                f"{len(found.unexpected)} left over, so its energies would differ; --allow-partial imports it anyway"
            )
        if found.stale:
            console.say(f"recomputed {found.stale} spectral norms that were never updated")
        save_model(target, made.config, made.weights, model_card(made.config))
        result: dict[str, Any] = {
            "output": str(target),
            "kind": found.kind,
            "parameters": sum(tensor.numel() for tensor in made.weights.values()),
            "scales": found.config.scales,
            "labels": list(made.config.labels),
            "missing": found.missing,
            "left_over": found.unexpected,
        }
        console.show(result if as_json else {k: v for k, v in result.items() if v != []}, as_json)


def _unknown(name: str) -> UsageError:
    from ebmctl.models import zoo

    return unknown("model", name, [n for entry in zoo.zoo().values() for n in (entry.name, *entry.aliases)])


def _described(entry: ZooModel) -> dict[str, Any]:
    from ebmctl.config import conversion

    weights = entry.folder and entry.folder / "model.safetensors"
    described = conversion.plain(entry)
    described["metrics"] = [conversion.plain(metric) for metric in entry.metrics]
    described |= {
        "where": entry.availability,
        "bytes": weights.stat().st_size if weights and weights.is_file() else None,
    }
    described.setdefault("origin", None)
    if not entry.published:
        described |= {"train": entry.how_to_train, "import": entry.how_to_import}
    return described


def _verified(entry: ZooModel) -> dict[str, Any]:
    from ebmctl.models import zoo

    row: dict[str, Any] = {"name": entry.name, "where": entry.availability}
    if row["where"] not in ("bundled", "cached"):
        return {**row, "ok": None, "result": "not on this machine"}
    try:
        zoo.check(entry)
    except EbmctlError as error:
        return {**row, "ok": False, "result": str(error)}
    return {**row, "ok": True, "result": "checksum matches" if entry.sha256 else "no known checksum"}


def _size(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:,.1f} MB"
