"""Results of `ebmctl ood`, `evaluate` and `compose --check` as tables, for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ebmctl.evaluation.card_rows import OUTLIER_FIGURES

OOD_NOTE = "In brackets 95 % bootstrap intervals. FPR@95: outside images accepted where 95 % of inside ones are."


@dataclass(frozen=True)
class Table:
    """A table: the first column names the rows; the last one is text where `text_last` says so, the others figures."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_last: bool = False


def quality_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """The figures of `ebmctl evaluate`, each with what it is of."""
    rows = [[name, figure(values), about(values)] for name, values in metrics.items()]
    return Table(["figure", "value", "of"], rows, text_last=True)


def outlier_table(result: Mapping[str, Any], inside: str) -> Table:
    """The figures of `ebmctl ood` with their intervals, the sets in rows, their average last."""
    rows = [
        [
            f"{inside} / {row['out']}",
            *(f"{row[k]['value']:.3f} ({row[k]['low']:.3f} to {row[k]['high']:.3f})" for k in OUTLIER_FIGURES),
            f"{row['n_in']:,} / {row['n_out']:,}",
        ]
        for row in result["results"]
    ]
    mean = ["average", *(f"{result['average'][key]:.3f}" for key in OUTLIER_FIGURES), ""]
    return Table(["in / out", *OUTLIER_FIGURES.values(), "images"], [*rows, mean])


def composition_table(found: Mapping[str, Any]) -> Table:
    """What `ebmctl compose --check` found: accuracies with intervals, then how the pictures look beside the data."""
    accuracies = {name: values["accuracy"] for name, values in found["attributes"].items()} | {"all": found["joint"]}
    rows = [
        [name, f"{value['value']:.3f}", f"{value['low']:.3f} to {value['high']:.3f}", ""]
        for name, value in accuracies.items()
    ]
    diversity = "none" if found["diversity"] is None else f"{found['diversity']:.3f}"
    rows.append(["diversity", diversity, "", "1.000"])
    rows += [[name, f"{values['composed']:.3f}", "", f"{values['data']:.3f}"] for name, values in found["look"].items()]
    return Table(["", "composed", "95 %", "data"], rows)


def composition_note(found: Mapping[str, Any]) -> str:
    """What a table of `compose --check` is of."""
    alike = f"the {found['held_out']:,} of them for which the expression holds"
    data = alike if found["held_out"] > 1 else "all of them, as the expression holds for none"
    judge = found["classifier"]["dataset"]
    return f"{found['n']:,} images, judged by a classifier of {judge}; held-out data: {data}"


def figure(values: Mapping[str, Any]) -> str:
    """A figure of `ebmctl evaluate` with its interval, its deviation, or the held-out images' own."""
    text = f"{values['value']:.4g}"
    if "low" in values:
        return f"{text} ({values['low']:.4g} to {values['high']:.4g})"
    if "held_out" in values:
        return f"{text}, held-out {values['held_out']:.4g}"
    return f"{text} ± {values['std']:.2g}" if "std" in values else text


def about(values: Mapping[str, Any]) -> str:
    """What a figure of `ebmctl evaluate` is of: extractor, temperature, images."""
    parts = [str(values["extractor"])] if "extractor" in values else []
    if "temperature" in values:
        parts.append(f"temperature {values['temperature']:g}")
    if "effective" in values:
        parts.append(f"effective {values['effective']:.2f}, acceptance {values['acceptance']:.2f}")
    if "n_real" in values:
        parts.append(f"{values['n']:,} drawn, {values['n_real']:,} of {values['data']} {values['split']}")
    elif "data" in values:
        parts.append(f"{values['n']:,} of {values['data']} {values['split']}")
    return ", ".join(parts)
