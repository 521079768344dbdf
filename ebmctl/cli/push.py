"""`ebmctl push`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ebmctl.cli import console


def push(
    model: str = typer.Argument(..., help="Model folder, run folder, or name in the zoo.", metavar="MODEL"),
    repo: str = typer.Argument(..., help="Repository on the Hugging Face Hub.", metavar="USER/REPO"),
    private: bool = typer.Option(False, "--private", help="Create the repository as a private one."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Show the files without uploading them."),
    zoo: bool = typer.Option(False, "--zoo", help="Print the model's entry for a zoo.toml."),
    samples: int = typer.Option(16, help="Number of samples in the model card.", metavar="N"),
    results: list[Path] = typer.Option([], help="JSON of ebmctl ood or evaluate, for the card.", metavar="FILE"),
    licence: str | None = typer.Option(
        None, help="Licence of the weights, by its identifier on the Hub.", metavar="ID"
    ),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Publish a model on the Hugging Face Hub, with a model card."""
    with console.guard(debug):
        from ebmctl.models import hub
        from ebmctl.publish.push import package, zoo_entry

        with package(model, repo, samples, licence, results) as ready:
            if ready.lacks:
                console.say(ready.lacks)
            sizes = {name: path.stat().st_size for name, path in ready.files.items()}
            result: dict[str, Any] = {"repo": repo, "sha256": ready.sha256, "files": sizes}
            if dry_run:
                result["sent"] = False
            else:
                pushed = hub.push(ready.files, repo, private)
                result |= {"sent": pushed.new, "revision": pushed.revision, "url": pushed.url}
                if zoo:
                    result["zoo"] = zoo_entry(ready.config, repo, pushed.revision, ready.sha256)
            if as_json:
                console.show(result, as_json=True)
                return
            if dry_run or result["sent"]:
                for name, size in sizes.items():
                    console.say(f"{'would upload' if dry_run else 'uploaded'} {name}, {size:,} bytes")
            else:
                console.say("nothing to upload: the repository is up to date")
            if zoo and not dry_run:
                print(result["zoo"], end="")
                return
            result["files"] = ", ".join(sizes)
            console.show(result, as_json=False)
