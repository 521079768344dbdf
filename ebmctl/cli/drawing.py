"""Images drawn for a picture, batch after batch: what `sample` and `compose` share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ebmctl.cli import console
from ebmctl.errors import UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ebmctl.config.plan import SamplingPlan
    from ebmctl.core.energy import Energy


class Drawn(NamedTuple):
    """uint8 frames (n, C, H, W), the last being the samples, what was `seen` of those, and the sampler's report."""

    frames: list[Tensor]
    seen: Tensor
    report: dict[str, float]


def draw_all(
    energy: Energy,
    plan: SamplingPlan,
    n: int,
    generator: torch.Generator,
    see: Callable[[Tensor], Tensor],
    keep: bool,
) -> Drawn:
    """Draw n images, with all frames of their chains or without `keep` the last one alone, and show the progress.

    `see` is called with each batch of samples (B, C, H, W) in [0, 1] on its device; what it returns, (B, ...), is kept.
    """
    import torch

    from ebmctl.core.buffer import quantize
    from ebmctl.models.sampling import batches, draw

    kept: list[list[Tensor]] = [[] for _ in range(plan.frames if keep else 1)]
    seen: list[Tensor] = []
    reports: list[tuple[int, dict[str, float]]] = []
    sizes = list(batches(n))
    with console.TaskProgress(transient=True) as progress:
        for batch, count in enumerate(sizes):
            chains = draw(energy, plan, count, generator)
            for index in itertools.count():
                try:
                    frame = next(chains)
                except StopIteration as end:
                    reports.append((count, end.value))
                    break
                last = index == plan.frames - 1
                if keep or last:
                    kept[index if keep else 0].append(quantize(frame).cpu())
                if last:
                    seen.append(see(frame).cpu())
                progress("sampling", batch * (plan.frames - 1) + index, len(sizes) * (plan.frames - 1))
    return Drawn([torch.cat(frame) for frame in kept], torch.cat(seen), _mean(reports))


def _mean(reports: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """What the batches' samplers report, on average over the images."""
    if len(reports) == 1:
        return reports[0][1]
    total = sum(count for count, _ in reports)
    return {key: sum(count * report[key] for count, report in reports) / total for key in reports[0][1]}


def check_pictures(out: Path, chain: Path | None) -> None:
    """Raise UsageError or EbmctlError if the image file or the animation can't be written."""
    from ebmctl.files import check_writable

    for path, known in ((out, (".png", ".jpg", ".jpeg", ".webp")), (chain, (".gif",))):
        if path is not None and path.suffix.lower() not in known:
            raise UsageError(f"{path}: the file name must end in {' or '.join(known)}")
        if path is not None:
            check_writable(path)


def check_count(n: int, plan: SamplingPlan, chain: bool, instead: str) -> None:
    """Raise UsageError for no images, and for more than a picture, or the animation of their chains, can hold."""
    from ebmctl.models.pictures import most_images

    if n < 1:
        raise UsageError(f"the number of images must be at least 1, not {n}")
    _, height, width = plan.shape
    for what, most in (
        ("a picture", most_images(height, width)),
        (f"an animation of {plan.frames} frames", most_images(height, width, plan.frames) if chain else n),
    ):
        if n > most:
            raise UsageError(f"-n {n}: {what} holds at most {most:,} images of {width} x {height}; {instead}")
