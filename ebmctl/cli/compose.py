"""`ebmctl compose`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ebmctl.cli import console, options
from ebmctl.cli.drawing import check_count, check_pictures, draw_all
from ebmctl.cli.sample import sampler_options
from ebmctl.compose import expression as expressions
from ebmctl.errors import UsageError

if TYPE_CHECKING:
    from ebmctl.compose.composition import Composition
    from ebmctl.config.plan import SamplingPlan
    from ebmctl.evaluation.composition import Check


def compose(
    context: typer.Context,
    terms: list[str] = typer.Argument(
        ..., help="Concepts, combined by AND: name, not:name, 'a|b', 2*name, name=value."
    ),
    out: Path = typer.Option(Path("composed.png"), "-o", "--out", help="Image file to write.", metavar="FILE"),
    n: int = typer.Option(16, "-n", help="Number of images.", metavar="N"),
    family: str | None = typer.Option(None, help="Family of concepts.", metavar="faces|objects|celebahq"),
    own: list[str] = typer.Option([], "--model", help="A concept of your own; may be repeated.", metavar="NAME=MODEL"),
    shared: bool = typer.Option(
        True, help="Count the energy that concepts share once, or add whole energies, as in the paper."
    ),
    strength: float | None = typer.Option(None, help="Weight of the concepts' energies.", metavar="W"),
    or_temperature: float | None = typer.Option(None, help="Temperature of OR.", metavar="T"),
    not_weight: float | None = typer.Option(None, help="Weight of NOT.", metavar="W"),
    flow_steps: int | None = options.FLOW_STEPS,
    rounds: int | None = options.ROUNDS,
    steps: int | None = options.STEPS,
    final_steps: int | None = options.FINAL_STEPS,
    sampler: str | None = options.SAMPLER,
    assignments: list[str] = options.SAMPLER_KEYS,
    chain: Path | None = options.CHAIN,
    check: bool = typer.Option(False, "--check", help="Check the images with an independent classifier."),
    classifier: str | None = typer.Option(None, help="Classifier to use instead of the zoo's.", metavar="FOLDER"),
    seed: int = options.SEED,
    device: str = options.DEVICE,
    compile: str = options.COMPILE,
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Combine separately trained concepts at sampling time."""
    with console.guard(debug):
        options.check_device(device)
        options.check_compile(compile)
        expression = expressions.parse_terms(terms)
        models = dict(map(_named_model, own))
        if classifier and not check:
            raise UsageError("--classifier requires --check")
        if n < 1:
            raise UsageError(f"the number of images must be at least 1, not {n}")
        sampler_keys = sampler_options(assignments)
        check_pictures(out, chain)
        from ebmctl.models.device import device_of

        where = device_of(device)
        from ebmctl.compose.composition import PLAIN, Algebra, Composition, replaced, vocabulary

        given = {"strength": strength, "or_temperature": or_temperature, "not_weight": not_weight}
        algebra = replaced(Algebra() if shared else PLAIN, given)
        words = vocabulary(family, models, [concept.name for concept in expressions.concepts(expression)], where)
        composed = Composition(expression, words, algebra)
        for line in composed.remarks():
            console.say(line)
        plan = composed.first.recipe.sampling_plan(
            flow_steps=flow_steps,
            rounds=rounds,
            steps=steps,
            final_steps=final_steps,
            sampler=sampler,
            sampler_options=sampler_keys,
        )
        check_count(n, plan, chain is not None, "for more, draw several pictures with other seeds, --seed")
        composed.quicken(n, plan.gradients, compile, console.say)
        judge = None
        if check:
            from ebmctl.evaluation.composition import prepare

            judge = prepare(composed, classifier)
        from ebmctl.cli.recorded import command

        _draw_and_show(composed, plan, n, seed, out, chain, judge, command(context), as_json)


def _named_model(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise UsageError(f"--model must be NAME=MODEL, such as smiling=runs/00003-faces, not '{text}'")
    return name, Path(path)


def _draw_and_show(
    composed: Composition,
    plan: SamplingPlan,
    n: int,
    seed: int,
    out: Path,
    chain: Path | None,
    judge: Check | None,
    command: str,
    as_json: bool,
) -> None:
    from ebmctl.core.noise import seeded
    from ebmctl.models.pictures import save_gif, save_grid

    began = time.monotonic()
    generator = seeded(seed, composed.first.device)
    frames, samples, report = draw_all(
        composed, plan, n, generator, lambda images: images if judge else images[:, :0], chain is not None
    )
    result: dict[str, Any] = {"expression": str(composed.expression), **composed.described(), "seed": seed, "n": n}
    text = {key: str(value) for key, value in result.items()}
    save_grid(out, frames[-1], {**text, "software": "ebmctl"})
    if chain:
        save_gif(chain, frames)
        console.say(f"the chains are in {chain}")
    console.say(f"{out} sampled in {time.monotonic() - began:.0f} s")
    if judge:
        console.show_result(judge(samples, seed, str(out), report, command), as_json)
        return
    result |= {"output": str(out), **report}
    if as_json:
        result["command"] = command
    else:
        result["models"] = ", ".join(composed.models)
        result |= result.pop("algebra")
    console.show(result, as_json)
