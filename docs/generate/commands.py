"""The help of the program and of each of its commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from ebmctl.cli import app

WIDTH = 100


def helps() -> str:
    """A heading and the text of `--help` for each command."""
    return "\n\n".join(f"### {' '.join(['ebmctl', *words])}\n\n```text\n{text(words)}\n```" for words in known())


def known() -> Iterator[list[str]]:
    """The commands, each as its words after `ebmctl`; first the program itself, without any."""
    return _below(get_command(app), [])


def _below(command: Any, words: list[str]) -> Iterator[list[str]]:
    yield words
    for name, inner in getattr(command, "commands", {}).items():
        yield from _below(inner, [*words, name])


def text(words: list[str]) -> str:
    """What `--help` of a command prints."""
    found = CliRunner().invoke(
        app, [*words, "--help"], prog_name="ebmctl", terminal_width=WIDTH, max_content_width=WIDTH
    )
    assert found.exit_code == 0, words
    return "\n".join(line.rstrip() for line in found.output.strip().splitlines())
