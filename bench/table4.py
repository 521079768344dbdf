"""The rows of the paper's Table 4, one NOT, one OR and one weight, as an independent classifier judges them.

python -m bench.table4 [--n 1000] [--seed 0] [--models 'runs/paper-{concept}'] [--family faces|objects] [--no-shared]
                       [--strength W] [--or-temperature T] [--not-weight W] [--flow-steps N] [--only ROW]...
                       [--grids DIR]

`--models` names the model folders of other concepts than the zoo's. Prints a Markdown table, a row as soon as it is
there; an accuracy has its 95 % interval, diversity and the pixels' figures are the data's where they are 1.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from ebmctl.compose.composition import PLAIN, Algebra, Composition, replaced, vocabulary
from ebmctl.compose.expression import concepts, parse
from ebmctl.core.noise import seeded
from ebmctl.errors import EbmctlError
from ebmctl.evaluation.composition import prepare
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.results import CompositionResult
from ebmctl.models.pictures import save_grid
from ebmctl.models.sampling import draw

ROWS = {
    "faces": {  # with the paper's accuracies on CelebA-HQ
        "young": "0.847",
        "young & female": "0.770, 0.583",
        "young & female & smiling": "0.906, 0.718, 0.968",
        "young & female & smiling & wavy_hair": "0.922, 0.625, 0.843, 0.906",
        "young & ~smiling": "",
        "young & (female | wavy_hair)": "",
        "young & 2*smiling": "",
    },
    "objects": {
        "identity=cube": "",
        "identity=cube & size=large": "",
        "identity=cube & size=large & position=left": "",
        "identity=cube & size=large & position=left & rotation=front": "",
        "identity=cube & ~position=left": "",
        "size=large & (identity=cube | identity=sphere)": "",
        "identity=cube & 2*rotation=front": "",
    },
}
LOOKS = ("sharpness", "saturation", "contrast")
BATCH = 100


def composition(text: str, options: argparse.Namespace) -> Composition:
    expression = parse(text)
    names = [concept.name for concept in concepts(expression)]
    own = {name: Path(options.models.format(concept=name)) for name in names} if options.models else {}
    given = {key: getattr(options, key) for key in ("strength", "or_temperature", "not_weight")}
    algebra = replaced(PLAIN if options.no_shared else Algebra(), given)
    return Composition(expression, vocabulary(options.family, own, names), algebra)


def row(text: str, options: argparse.Namespace) -> tuple[CompositionResult, float]:
    """What is found in the composed images, and the seconds that it took."""
    composed = composition(text, options)
    check = prepare(composed)
    plan = composed.first.recipe.sampling_plan(flow_steps=options.flow_steps)
    began, parts = time.monotonic(), []
    for index in range(0, options.n, BATCH):
        count = min(BATCH, options.n - index)
        *_, last = draw(composed, plan, count, seeded(options.seed + index))
        parts.append(last)
    samples = torch.cat(parts)
    if options.grids:
        save_grid(options.grids / f"{text.replace(' ', '')}.png".replace("|", "or"), samples[:64])
    return check(samples, options.seed), time.monotonic() - began


def cells(text: str, found: CompositionResult, seconds: float, paper: str) -> list[str]:
    def told(share: Interval) -> str:
        return f"{share.value:.3f} ({share.bounds})"

    attributes = {name: told(share) for name, share in found.attributes.items()}
    look = found.look or {}
    return [
        f"`{text}`".replace("|", "\\|"),
        "<br>".join(f"{name} {value}".replace("|", "\\|") for name, value in attributes.items()),
        told(found.joint),
        "" if found.diversity is None else f"{found.diversity:.2f}",
        *(f"{look[name].composed / look[name].data:.2f}" for name in LOOKS),
        f"{look['histogram distance'].composed:.3f}",
        f"{seconds:.0f}",
        paper,
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", help="a pattern with {concept}")
    parser.add_argument("--family", default="faces", choices=list(ROWS))
    parser.add_argument("--no-shared", action="store_true")
    for name in ("--strength", "--or-temperature", "--not-weight"):
        parser.add_argument(name, type=float)
    parser.add_argument("--flow-steps", type=int)
    parser.add_argument("--only", action="append", default=[], help="an expression in place of the rows")
    parser.add_argument("--grids", type=Path, help="where to put the first 64 images of each row")
    options = parser.parse_args()
    header = ["composed", "accuracy", "all", "diversity", *LOOKS, "histogram distance", "seconds", "paper"]
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}", flush=True)
    known = ROWS[options.family]
    for text in options.only or known:
        print(f"| {' | '.join(cells(text, *row(text, options), known.get(text, '')))} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EbmctlError as error:
        raise SystemExit(f"error: {error}") from None
