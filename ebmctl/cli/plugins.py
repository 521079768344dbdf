"""`ebmctl plugins`: what is installed, and a template for a new one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ebmctl.cli import console
from ebmctl.config import plugins, recipe
from ebmctl.config.plugins import Entry, Plugin
from ebmctl.errors import EbmctlError

app = typer.Typer(help="List plugins, or create one.", no_args_is_help=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def show(context: typer.Context, as_json: bool = console.JSON, debug: bool = console.DEBUG) -> None:
    """List all plugins with what they register, or create a new one."""
    if context.invoked_subcommand is not None:
        return
    with console.guard(debug):
        found = plugins.installed()
        described = [_describe(plugin) for plugin in found]
        conflicts = plugins.conflicts(found)
        if as_json:
            console.show({"plugins": described, "conflicts": conflicts}, as_json=True)
            return
        for plugin in described:
            _print(plugin)


def _print(plugin: dict[str, Any]) -> None:
    """A plugin as a paragraph: no column of a table is narrow enough for a terminal and wide enough for the names."""
    typer.echo(f"{plugin['package']} {plugin['version']}")
    widths = [max((len(entry[key]) for entry in plugin["entries"]), default=0) for key in ("kind", "name")]
    for entry in plugin["entries"]:
        typer.echo(f"  {entry['kind']:<{widths[0]}}  {entry['name']:<{widths[1]}}  {entry['about']}".rstrip())
    if plugin["problem"]:
        typer.echo(f"  broken: {plugin['problem']}")


def _describe(plugin: Plugin) -> dict[str, Any]:
    """A plugin as JSON shows it; its import strings are resolved and its recipes checked, which takes a while."""
    problems = [plugin.problem] if plugin.problem else []
    for entry in plugin.entries if plugin.package != plugins.OWN else ():
        if problem := _problem(entry):
            problems.append(problem)
            plugins.report(f"the plugin {plugin.name} of {plugin.package} {plugin.version} is broken: {problem}")
    return {
        "name": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "entries": [{"kind": e.kind, "name": e.name, "about": e.about} for e in plugin.entries],
        "problem": "; ".join(problems) or None,
    }


def _problem(entry: Entry) -> str | None:
    """Why an entry can't be used; None where it can."""
    try:
        if entry.kind == "recipe":
            recipe.from_mapping(recipe.read(entry.name))
        else:
            entry.load()
            entry.load_options()
    except EbmctlError as error:
        return f"{entry}: {error}" if entry.kind == "recipe" else str(error)
    return None


@app.command("new")
def new(
    name: str = typer.Argument(..., help="Name in lower case; the package is ebmctl-NAME.", metavar="NAME"),
    out: Path | None = typer.Option(None, help="Folder to create; default: ebmctl-NAME.", metavar="DIR"),
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Create a package that registers a sampler, with a passing test."""
    with console.guard(debug):
        from ebmctl.cli.template import write_plugin

        folder = out or Path(f"ebmctl-{name}")
        files = write_plugin(name, folder)
        console.say(f"next: pip install -e {folder} && pytest {folder}, then edit {files[0]}")
        console.show({"output": str(folder), "files": [str(file) for file in files]}, as_json)
