"""`ebmctl train --dry-run`: the recipe of a run, and an estimate of its time and memory."""

from __future__ import annotations

import tomli_w

from ebmctl.cli import console
from ebmctl.config.schema import Recipe


def dry_run(recipe: Recipe, device: str, precision: str, compile: str, limit: float | None, as_json: bool) -> None:
    """Print the resolved recipe, and an estimate from a few measured steps."""
    from ebmctl.models.form import Work, choose
    from ebmctl.training.estimate import estimate
    from ebmctl.training.parallel import make_accelerator

    if not as_json:
        print(tomli_w.dumps(recipe.to_mapping()))
    console.say("measuring a few steps on random images ...")
    accelerator = make_accelerator(device)
    form = choose(accelerator.device, precision, compile, Work(limit=limit))
    found = estimate(recipe, accelerator, form)
    if as_json:
        console.show({"recipe": recipe.to_mapping(), **found}, as_json=True)
        return
    megabytes = {k: f"{found[k] / 1e6:,.0f} MB" for k in ("memory_state", "memory_peak")}
    console.show(
        {
            "parameters": f"{found['parameters']:,}",
            "memory for weights, optimizer and buffer": megabytes["memory_state"],
            "peak memory of the process": megabytes["memory_peak"],
            "seconds per training step": found["seconds_per_step"],
            f"{recipe.run.steps:,} steps take": console.duration(found["seconds"]),
        },
        as_json=False,
    )
