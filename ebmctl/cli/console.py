"""What the terminal shows; the only place that knows Rich. Results on standard output, all else on standard error."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table

from ebmctl.config.schema import EVAL_DISTANCE, EVAL_SCORE
from ebmctl.errors import EbmctlError, UsageError

if TYPE_CHECKING:
    from ebmctl.evaluation.results import CompositionResult, OutlierResult

DEBUG = typer.Option(False, "--debug", help="Show the traceback of an error.")
JSON = typer.Option(False, "--json", help="Print the result as one JSON object.")


def messages() -> Console:
    """The console of standard error."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class _Lines(logging.Handler):
    """Prints log records, one line each: Rich's own handler breaks lines at the terminal's width."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextlib.contextmanager
def guard(debug: bool) -> Iterator[None]:
    """Turn errors into one line on standard error and the right exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[_Lines()])
    for name in ("httpx", "httpx2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    except EbmctlError as error:
        if debug:
            traceback.print_exc()
        messages().print(f"[bold red]error:[/] {_escape(str(error))}")
        for line in error.detail:
            messages().print(f"  {_escape(line)}")
        raise typer.Exit(error.status) from None
    except KeyboardInterrupt:
        messages().print("interrupted")
        raise typer.Exit(130) from None
    except BrokenPipeError:
        sys.stderr.close()  # nobody reads it any more: this keeps the interpreter from complaining, too
        raise typer.Exit(1) from None


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """Yield the list of signals received, SIGINT (Ctrl-C) or SIGTERM; the second one of a kind interrupts at once."""
    received: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        if number in received:  # torch's launcher sends SIGTERM after Ctrl-C
            raise KeyboardInterrupt
        received.append(number)
        messages().print("stopping after this step (Ctrl-C again to stop immediately) ...")

    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, old in previous.items():
            signal.signal(number, old)


def choice(option: str, value: str | None, known: list[str]) -> None:
    """Raise UsageError for an option's value that is neither None nor one of those known."""
    if value is not None and value not in known:
        raise UsageError(f"{option} must be {', '.join(known[:-1])} or {known[-1]}, not '{value}'")


def say(line: str) -> None:
    """A message for the user."""
    messages().print(_escape(line))


def show(result: Mapping[str, Any], as_json: bool, title: str = "") -> None:
    """The result of a command: a table of names and values, or one JSON object."""
    if as_json:
        print(json.dumps(result))
        return
    table = Table(title=title or None, show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in result.items():
        table.add_row(name.replace("_", " "), _escape(_text(value)))
    _results().print(table)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_last: bool = False) -> None:
    """A result of several columns on standard output, the first one left-aligned; the last one may be text to wrap."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for index, title in enumerate(header):
        is_text = text_last and index == len(header) - 1
        shown.add_column(title, justify="right" if index and not is_text else "left", no_wrap=not is_text)
    for row in rows:
        shown.add_row(*map(_escape, row))
    _results().print(shown)


def show_result(result: OutlierResult | CompositionResult, as_json: bool) -> None:
    """A typed result: its table and its note, or its JSON."""
    if as_json:
        show(result.to_json(), as_json=True)
        return
    made = result.table()
    table(made.header, made.rows)
    say(result.note)


def _results() -> Console:
    """The console of standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a pipe has no width to fit into
    return console


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


def _escape(text: str) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return printable.replace("[", r"\[")


Shown = TypeVar("Shown", bound="_WithBar")


class _WithBar:
    """Shows its progress bar, on a terminal, for as long as it is entered."""

    bar: Progress | None

    def __enter__(self: Shown) -> Shown:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()


class TrainingProgress(_WithBar):
    """A progress bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, steps: int, seconds: float | None, start: int, quiet_interval: float = 10.0) -> None:
        self.steps, self.seconds, self.first = steps, seconds, start
        self.began = self.last_line = time.monotonic()
        self.interval = quiet_interval
        console = messages()
        self.bar = None
        if console.is_terminal:
            text = TextColumn("{task.description}", table_column=Column(no_wrap=True))
            self.bar = Progress(text, BarColumn(bar_width=None), console=console, expand=True)
            self.task = self.bar.add_task("first step ...", total=1.0)

    def update(self, values: Mapping[str, Any]) -> None:
        """Show the metrics of a step."""
        if EVAL_DISTANCE in values:
            say(f"step {values['step']}: distance {values[EVAL_DISTANCE]:.4g}, score {values[EVAL_SCORE]:.4g}")
        now = time.monotonic()
        done = values["step"] - self.first
        rate = done / max(now - self.began, 1e-9)
        share = values["step"] / self.steps
        left = (self.steps - values["step"]) / rate
        if self.seconds is not None and self.seconds - (now - self.began) < left:
            left = max(self.seconds - (now - self.began), 0.0)
            share = (now - self.began) / self.seconds
        line = (
            f"step {values['step']}/{self.steps}  {_losses(values)}  "
            f"grad {values['gradient']:.2g}  {rate:.2g}/s  {duration(left)}"
        )
        if self.bar:
            self.bar.update(self.task, completed=min(share, 1.0), description=line)
        elif now - self.last_line >= self.interval or done == 1 or values["step"] == self.steps:
            self.last_line = now
            say(line)


class TaskProgress(_WithBar):
    """The progress of tasks, called as progress(what, done, all): bars on a terminal, elsewhere a line now and then.

    With `transient` the bar is removed at the end, and short tasks print nothing.
    """

    def __init__(self, quiet_interval: float = 10.0, transient: bool = False) -> None:
        self.interval, self.last_line, self.transient = quiet_interval, time.monotonic(), transient
        console = messages()
        self.tasks: dict[str, TaskID] = {}
        self.bar = Progress(console=console, transient=transient) if console.is_terminal else None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        if self.bar:
            if what not in self.tasks:
                self.tasks[what] = self.bar.add_task(what, total=total)
            self.bar.update(self.tasks[what], completed=done)
        elif (done == total and not self.transient) or time.monotonic() - self.last_line >= self.interval:
            self.last_line = time.monotonic()
            say(f"{what} {done:,} of {total:,}")


def _losses(values: Mapping[str, Any]) -> str:
    """The energies of a step, or its losses where the objective has no samples."""
    if "energy_difference" not in values:
        losses = ((name, value) for name, value in values.items() if name.startswith("loss_"))
        return "  ".join(f"{name.removeprefix('loss_')} {value:.4f}" for name, value in losses)
    return (
        f"E data {values['energy_data']:+.3f}  samples {values['energy_samples']:+.3f}  "
        f"diff {values['energy_difference']:+.3f}"
    )


def duration(seconds: float) -> str:
    """Seconds in readable units: 45 s, 3 min 20 s, 5 h 12 min, 3 days 4 h."""
    units = [("days", 86400), ("h", 3600), ("min", 60), ("s", 1)]
    whole = round(seconds)
    for index, (name, size) in enumerate(units):
        if whole >= size or size == 1:
            text = f"{whole // size} {name}"
            if size > 1 and (rest := whole % size // units[index + 1][1]):
                text += f" {rest} {units[index + 1][0]}"
            return text
    raise AssertionError
