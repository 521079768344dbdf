"""`ebmctl sample`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ebmctl.cli import console, options
from ebmctl.cli.drawing import check_count, check_pictures, draw_all
from ebmctl.config import conversion


def sample(
    model: str = typer.Argument(..., help="A model or run folder, a name in the zoo, or USER/REPO.", metavar="MODEL"),
    n: int = typer.Option(64, "-n", help="Number of images.", metavar="N"),
    out: Path = typer.Option(Path("samples.png"), "-o", "--out", help="Image file to write.", metavar="FILE"),
    flow_steps: int | None = options.FLOW_STEPS,
    rounds: int | None = options.ROUNDS,
    steps: int | None = options.STEPS,
    final_steps: int | None = options.FINAL_STEPS,
    sampler: str | None = options.SAMPLER,
    assignments: list[str] = options.SAMPLER_KEYS,
    label: str | None = options.LABEL,
    chain: Path | None = options.CHAIN,
    seed: int = options.SEED,
    device: str = options.DEVICE,
    compile: str = options.COMPILE,
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Sample images from a trained model (Algorithm 2)."""
    with console.guard(debug):
        options.check_device(device)
        options.check_compile(compile)
        from ebmctl.models.zoo import find_model

        folder = find_model(model)
        sampler_keys = sampler_options(assignments)
        check_pictures(out, chain)
        from ebmctl.core.noise import seeded
        from ebmctl.models.model import load
        from ebmctl.models.pictures import save_gif, save_grid

        loaded = load(folder, device)
        plan = loaded.recipe.sampling_plan(
            flow_steps=flow_steps,
            rounds=rounds,
            steps=steps,
            final_steps=final_steps,
            sampler=sampler,
            sampler_options=sampler_keys,
        )
        check_count(n, plan, chain is not None, f"for more: ebmctl evaluate {model} -n {n} --keep DIR")
        loaded = loaded.quick(n, plan.gradients, compile, console.say)
        generator = seeded(seed, loaded.device)
        frames, energies, report = draw_all(
            loaded.fixed(label), plan, n, generator, lambda images: loaded.energy(images, label), chain is not None
        )
        save_grid(out, frames[-1], {"model": model, "seed": str(seed), "software": "ebmctl"})
        if chain:
            save_gif(chain, frames)
            console.say(f"the chains are in {chain}")
        result = {"output": str(out), "n": n, "seed": seed, "energies": [round(e, 6) for e in energies.tolist()]}
        if not as_json:
            result["energies"] = f"{energies.mean():.4f} on average, from {energies.min():.4f} to {energies.max():.4f}"
        console.show(result | report, as_json)


def sampler_options(assignments: list[str]) -> dict[str, Any]:
    """The sampler's keys that `--set key=value` (or `sampler.key=value`, as in a recipe) overrides."""
    options = {}
    for text in assignments:
        path, value = conversion.parse_assignment(text.strip().removeprefix("sampler."))
        options[".".join(path)] = value
    return options
