"""The model card of a repository on the Hub."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from ebmctl.evaluation.results import CardRow
from ebmctl.models.card import how_made, licence_of, public_recipe
from ebmctl.models.folder import ModelConfig
from ebmctl.models.metrics import Metrics, is_number
from ebmctl.models.model import Model, sample
from ebmctl.models.pictures import grid

PICTURE_LIMIT = 48_000  # bytes of a PNG; a larger picture becomes a JPEG
LARGEST_PICTURE = 512  # pixels

CARD = """\
---
library_name: ebmctl
license: {licence}
pipeline_tag: unconditional-image-generation
tags: [energy-based-model, contrastive-divergence, image-generation]
{index}---
# {name}: an energy-based model of {dataset}

{picture}E(x) is the energy of an image of {channels} x {size} x {size} in [0, 1], low where it looks like the data:
p(x) is proportional to exp(-E(x)). {about}

## Use it

    ebmctl sample {repo} -n 64 -o samples.png{label}

The sampling recipe travels with the weights. From Python: `ebmctl.load("{repo}")`.

| | |
|---|---|
| parameters | {parameters:,} |
| scales | {scales} |
| labels | {labels} |
| SHA-256 of the weights | `{sha256}` |

## Training

{training}

## Evaluation

{evaluation}

## Recipe

```toml
{recipe}```

## Limits

Energies are not normalised: they compare images under this model, not across models. Samples come from chains of
finite length, so they do not follow p(x) exactly, and may be blurred, saturated or repetitive. The model reflects its
training data, with all its gaps and biases; what it generates or flags as unusual says nothing about people.

## Licence

{licence_text}

## Citation

```bibtex
@inproceedings{{du2021improved,
  title     = {{Improved Contrastive Divergence Training of Energy-Based Models}},
  author    = {{Du, Yilun and Li, Shuang and Tenenbaum, Joshua and Mordatch, Igor}},
  booktitle = {{Proceedings of the 38th International Conference on Machine Learning}},
  year      = {{2021}},
  url       = {{https://arxiv.org/abs/2012.01316}}
}}
```
{also}"""
ENERGY_MATCHING = """
It was also trained with Energy Matching: Balcerak et al., 2025, [arXiv:2504.10612](https://arxiv.org/abs/2504.10612).
"""


def model_card(
    model: Model,
    repo: str,
    checksum: str,
    samples: int,
    licence: str | None,
    rows: Sequence[CardRow],
    metrics: Metrics,
    curves: str,
) -> str:
    """The README.md of a repository; `curves` are those of the metrics, as Markdown."""
    config, data = model.config, model.recipe.data
    dataset = data.dataset.public
    name = repo.partition("/")[2]
    licence = licence or licence_of(config)
    label = config.labels[-1] if config.labels else None
    objectives = {phase.objective.name for phase in model.recipe.schedule}
    return CARD.format(
        licence=json.dumps(licence),
        index=f"model-index: {model_index(name, rows)}\n" if rows else "",
        name=name,
        dataset=dataset + (f" ({data.label})" if data.label else ""),
        picture=_picture(model, samples, label, repo),
        channels=data.channels,
        size=data.size,
        about=model.recipe.about.rstrip(".") + "." if model.recipe.about else "",
        repo=repo,
        label=f' --label "{label}"' if label else "",
        parameters=sum(p.numel() for p in model.network.parameters()),
        scales=model.scale_count,
        labels=", ".join(config.labels) or "none (unconditional)",
        sha256=checksum,
        training=_training(config, metrics, curves),
        evaluation=_evaluation(rows),
        recipe=public_recipe(model.recipe),
        licence_text=_licence_text(licence),
        also=ENERGY_MATCHING if "energy-matching" in objectives else "",
    )


def _picture(model: Model, samples: int, label: str | None, repo: str) -> str:
    """A grid of samples as a data address, and how to draw it again."""
    if not samples:
        return ""
    drawn = grid(sample(model, samples, seed=0, label=label)).convert("RGB")
    if max(drawn.size) > LARGEST_PICTURE:
        drawn.thumbnail((LARGEST_PICTURE, LARGEST_PICTURE))
    stream, kind = io.BytesIO(), "png"
    drawn.save(stream, "PNG", optimize=True)
    if stream.tell() > PICTURE_LIMIT:
        stream, kind = io.BytesIO(), "jpeg"
        drawn.save(stream, "JPEG", quality=85)
    data = base64.b64encode(stream.getvalue()).decode()
    option = f' --label "{label}"' if label else ""
    return (
        f"![{samples} samples](data:image/{kind};base64,{data})\n\n"
        f"*{samples} samples, uncurated. To reproduce them: `ebmctl sample {repo} -n {samples} --seed 0{option}`.*\n\n"
    )


def _training(config: ModelConfig, metrics: Metrics, curves: str) -> str:
    """The last figures of the training, and its curves."""
    if not metrics.steps:
        return how_made(config)
    last, rows = metrics.steps[-1], ["| | last step |", "|---|---|"]
    told = [k for k in last if k in ("step", "gradient") or k.startswith(("energy_", "loss_"))]
    rows += [f"| {k.replace('_', ' ')} | {last[k]:,.6g} |" for k in told if is_number(last[k])]
    return "\n".join([how_made(config), "", *rows, *(["", curves] if curves else [])])


def model_index(name: str, rows: Iterable[CardRow]) -> str:
    """The `model-index` of a model card: JSON, which is YAML too."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        metric = {"type": row.metric.lower(), "name": f"{row.metric} ({row.note})", "value": row.value}
        groups.setdefault((row.task, row.dataset, row.split), []).append(metric)
    entries = [
        {"task": {"type": task}, "dataset": {"name": data, "type": data, "split": split}, "metrics": metrics}
        for (task, data, split), metrics in groups.items()
    ]
    return json.dumps([{"name": name, "results": entries}], ensure_ascii=False)


def _evaluation(rows: Sequence[CardRow]) -> str:
    if not rows:
        return "No results were published with these weights."
    lines = [
        f"| {_cell(f'{row.dataset} ({row.split})')} | {_cell(row.metric)} | {row.value:.6g} | {_cell(row.note)} |"
        for row in rows
    ]
    return "\n".join(["| data | metric | value | how |", "|---|---|---|---|", *lines])


def _cell(text: str) -> str:
    """A text in a Markdown table: whatever it holds, it stays in its cell."""
    return " ".join(text.split()).replace("|", r"\|")


def _licence_text(licence: str) -> str:
    if licence == "unknown":
        return "The weights are those of the paper's authors, who have stated no licence."
    return f"The weights: {licence}. The data they were trained on has its own terms."
