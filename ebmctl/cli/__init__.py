"""The command line. Each command's heavy imports happen inside the command."""

from __future__ import annotations

import sys

import typer

from ebmctl import __version__
from ebmctl.cli import compose, data, evaluate, ood, plugins, push, sample, train, zoo

app = typer.Typer(
    name="ebmctl",
    help="Train energy-based models of images, sample from them, compose and evaluate them, and detect outliers.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("train")(train.train)
app.command("sample")(sample.sample)
app.command("compose")(compose.compose)
app.command("ood")(ood.ood)
app.command("push")(push.push)
app.add_typer(zoo.app, name="zoo")
app.command("evaluate")(evaluate.evaluate)
app.add_typer(data.app, name="data")
app.add_typer(plugins.app, name="plugins")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ebmctl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    pass


def main() -> None:
    """The `ebmctl` program."""
    sys.argv[1:] = complete_resume(sys.argv[1:])
    app(prog_name="ebmctl")


def complete_resume(arguments: list[str]) -> list[str]:
    """`--resume` without a value means the latest run; options with an optional value are not Typer's."""
    last = len(arguments) - 1
    return [
        f"{argument}=latest" if argument == "--resume" and (i == last or arguments[i + 1].startswith("-")) else argument
        for i, argument in enumerate(arguments)
    ]
