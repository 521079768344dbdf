"""Curves of a training run, drawn by matplotlib as PNG: of a noisy curve that is far smaller than SVG."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ebmctl.evaluation.panels import new_figure
from ebmctl.models.metrics import Group, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]  # steps and values

WIDTH, HEIGHT, DPI = 5.0, 2.7, 120  # inches, dots an inch: with FONT_SIZE that is readable at a phone's width
FONT_SIZE = 11  # points
LOGARITHMIC = 30.0  # largest over smallest, of what is never 0 or less
PARTS = 300  # of a curve's length: finer than that nothing is seen
AVERAGED = 100  # a mean is over this part of a curve's points
COLOURS = 32  # of a PNG
LONGEST = 28  # letters of a name in a picture; the text beside it has all of it
STYLES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Look:
    """Colours of a picture. `paper` may be "none", which lets the page shine through."""

    paper: str
    text: str
    rule: str
    lines: tuple[str, ...]


LIGHT = Look("none", "#5a5f6a", "#dcdcd6", ("#0b5cad", "#b3420f", "#55585f", "#7a3d9a"))
DARK = Look("none", "#a3a8b3", "#33373f", ("#7db8f5", "#f0a070", "#c9ccd4", "#cf9ff0"))
ON_WHITE = Look("#ffffff", LIGHT.text, LIGHT.rule, LIGHT.lines)  # readable on pages of any colour


def png(group: Group, look: Look = ON_WHITE, *, titled: bool = True, dpi: int = DPI) -> bytes:
    """A picture of WIDTH x HEIGHT inches: each series faint as it is, and bold as running means.

    The same series give the same bytes. Raises EbmctlError that says how to get matplotlib.
    """
    figure = new_figure(WIDTH, HEIGHT)
    from matplotlib import style

    stream = io.BytesIO()
    with style.context(["default", _settings(look)]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a name has letters which the font lacks
        figure.set_facecolor(look.paper)
        axes: Axes = figure.subplots()
        draw(axes, group, look)
        if titled:
            figure.suptitle(_name(title(group), 2 * LONGEST), fontsize="medium", x=0.01, ha="left")
        figure.savefig(stream, format="rgba", dpi=dpi)
    picture = Image.frombytes("RGBA", (round(WIDTH * dpi), round(HEIGHT * dpi)), stream.getvalue())
    return _small(picture if look.paper == "none" else picture.convert("RGB"))


def about(group: Group) -> str:
    """What a picture shows, in words: from which step to which, and where the running means end."""
    first = min(series.steps[0] for series in group.series.values())
    last = max(series.steps[-1] for series in group.series.values())
    ends = ", ".join(f"{name} ends at {means(series)[1][-1]:.4g}" for name, series in group.series.items())
    return f"{title(group)} from step {first:,} to {last:,}: {ends}"


def title(group: Group) -> str:
    """The title of a picture, which says where its axis is not as people expect."""
    return group.title + " (logarithmic)" * is_logarithmic(group)


def is_logarithmic(group: Group) -> bool:
    """Whether all values are positive, and their means so far apart that only their logarithms can be seen together."""
    everything = group.series.values()
    if min(min(series.values) for series in everything) <= 0:
        return False
    averaged = np.concatenate([means(series)[1] for series in everything])
    return bool(averaged.max() / LOGARITHMIC > averaged.min())


def means(series: Series) -> Curve:
    """Running means over a hundredth of the points, about PARTS of them, the last over the last points.

    Steps are averaged like values, so that a straight line stays where it is.
    """
    window = max(len(series.values) // AVERAGED, 1)
    apart = max(len(series.values) // PARTS, 1)
    steps, values = (
        np.lib.stride_tricks.sliding_window_view(np.asarray(numbers, dtype=float), window)[::-apart][::-1].mean(1)
        for numbers in series
    )
    return steps, values


def extremes(series: Series) -> Curve:
    """The smallest and the largest value of each of PARTS parts, where they are: drawn, it looks like all of them."""
    steps, values = (np.asarray(numbers, dtype=float) for numbers in series)
    if len(values) > 2 * PARTS:
        parts = np.array_split(np.arange(len(values)), PARTS)
        ends = [place for part in parts for place in (part[values[part].argmin()], part[values[part].argmax()])]
        chosen = np.unique(ends)
        steps, values = steps[chosen], values[chosen]
    return steps, values


def draw(axes: Axes, group: Group, look: Look) -> None:
    """Draw the curves of a group, with a legend where they are several."""
    bold = []
    for index, series in enumerate(group.series.values()):
        colour = look.lines[index % len(look.lines)]
        dashes = STYLES[(index // len(look.lines) + index % len(look.lines) // 2) % len(STYLES)]
        if len(series.values) >= 2 * AVERAGED:
            axes.plot(*extremes(series), color=colour, linewidth=0.6, alpha=0.35)
        bold += axes.plot(*means(series), color=colour, linewidth=1.6, linestyle=dashes, zorder=3)
    _scale(axes, group, look)
    axes.set_xlabel("training step")
    if len(bold) > 1:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}  # above the curves
        legend = axes.legend(bold, list(map(str, range(len(bold)))), ncols=_columns(group), **place)
        for text, name in zip(legend.get_texts(), group.series, strict=True):
            text.set_text(_name(name, LONGEST))  # by itself a legend leaves out names that begin with "_"


def _scale(axes: Axes, group: Group, look: Look) -> None:
    """Axes with few round numbers, as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if is_logarithmic(group):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,), numticks=6))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        low, high = axes.get_ylim()
        if low < 0 < high:
            axes.axhline(0, color=look.text, linewidth=0.8, zorder=1)
    least = 0.0 if axes.get_yscale() == "log" else 1e-9 * (high - low)  # of a tick that isn't 0 but for rounding
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: "0" if abs(y) < least else number(y)))
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: number(x)))
    axes.margins(x=0.01)


def number(value: float) -> str:
    """A number of an axis: thousands apart, and a true minus."""
    return f"{value:,.7g}".replace("-", "−")


def _settings(look: Look) -> dict[str, Any]:
    """Of matplotlib; all others are its own, whatever the user's are."""
    quiet = {f"axes.spines.{side}": False for side in ("left", "top", "right")}
    texts = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), look.text)
    return {
        **quiet,
        **texts,
        "font.size": FONT_SIZE,
        "text.parse_math": False,  # names come from files
        "axes.facecolor": look.paper,
        "axes.edgecolor": look.rule,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": look.rule,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "legend.fontsize": "medium",
    }


def _name(text: str, longest: int) -> str:
    """A name from a file as it can be drawn."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return printable if len(printable) <= longest else printable[: longest - 1] + "…"


def _columns(group: Group) -> int:
    """How many names of a legend have room beside one another."""
    longest = max(len(_name(name, LONGEST)) for name in group.series)
    return max(60 // (longest + 6), 1)


def _small(picture: Image.Image) -> bytes:
    """A PNG of few colours; paper stays white, or clear."""
    if picture.mode == "RGB":
        few = picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    else:
        few = picture.quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        palette = few.getpalette("RGBA") or []
        palette[3::4] = [alpha * (alpha > 3) for alpha in palette[3::4]]  # clear was averaged with what is nearly so
        few.putpalette(palette, "RGBA")
    stream = io.BytesIO()
    few.save(stream, "PNG", optimize=True)
    return stream.getvalue()
