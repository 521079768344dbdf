"""`ebmctl sample`."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ebmctl.cli import console, options
from ebmctl.config import conversion
from ebmctl.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


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
    as_json: bool = console.JSON,
    debug: bool = console.DEBUG,
) -> None:
    """Sample images from a trained model (Algorithm 2)."""
    with console.guard(debug):
        options.check_device(device)
        from ebmctl.models.zoo import find_model

        folder = find_model(model)
        sampler_keys = sampler_options(assignments)
        check_pictures(out, chain)
        from ebmctl.core.noise import seeded
        from ebmctl.models.model import load
        from ebmctl.models.pictures import save_gif, save_grid
        from ebmctl.models.sampling import draw

        loaded = load(folder, device)
        plan = loaded.recipe.sampling_plan(
            flow_steps=flow_steps,
            rounds=rounds,
            steps=steps,
            final_steps=final_steps,
            sampler=sampler,
            sampler_options=sampler_keys,
        )
        chains = draw(loaded.fixed(label), plan, n, seeded(seed, loaded.device))
        drawn, report = run_chains(chains, plan.frames, keep=chain is not None)
        energies = loaded.energy(drawn[-1], label)
        save_grid(out, drawn[-1], {"model": model, "seed": str(seed), "software": "ebmctl"})
        if chain:
            save_gif(chain, drawn)
            console.say(f"the chains are in {chain}")
        result = {"output": str(out), "n": n, "seed": seed, "energies": [round(e, 6) for e in energies.tolist()]}
        if not as_json:
            result["energies"] = f"{energies.mean():.4f} on average, from {energies.min():.4f} to {energies.max():.4f}"
        console.show(result | report, as_json)


def run_chains(
    chains: Generator[Tensor, None, dict[str, float]], count: int, keep: bool
) -> tuple[list[Tensor], dict[str, float]]:
    """The `count` frames of chains, or without `keep` only the last one, and what the sampler reports about its steps.

    Shows the progress.
    """
    kept: list[Tensor] = []
    with console.TaskProgress(transient=True) as progress:
        for index in itertools.count():
            try:
                frame = next(chains)
            except StopIteration as end:
                return kept, end.value
            kept = [*kept, frame] if keep else [frame]
            progress("sampling", index, count - 1)
    raise AssertionError


def check_pictures(out: Path, chain: Path | None) -> None:
    """Raise UsageError or EbmctlError if the image file or the animation can't be written."""
    from ebmctl.files import check_writable

    for path, known in ((out, (".png", ".jpg", ".jpeg", ".webp")), (chain, (".gif",))):
        if path is not None and path.suffix.lower() not in known:
            raise UsageError(f"{path}: the file name must end in {' or '.join(known)}")
        if path is not None:
            check_writable(path)


def sampler_options(assignments: list[str]) -> dict[str, Any]:
    """The sampler's keys that `--set key=value` (or `sampler.key=value`, as in a recipe) overrides."""
    options = {}
    for text in assignments:
        path, value = conversion.parse_assignment(text.strip().removeprefix("sampler."))
        options[".".join(path)] = value
    return options
