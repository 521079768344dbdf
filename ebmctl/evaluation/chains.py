"""What chains do: over time, from one start, and where they end without noise (the paper's Figures 5, 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from ebmctl.core.energy import energy_gradient
from ebmctl.core.langevin import HasStepSize, run
from ebmctl.core.noise import seeded
from ebmctl.errors import EbmctlError
from ebmctl.models.model import Model
from ebmctl.models.sampling import make_parts, moments, start_noise

FLOW_SHOWN, ROUNDS_SHOWN = 6, 6


class NotDrawnError(EbmctlError):
    """A figure that is not meaningful for this model; others may be."""


class Chains:
    """A model's chains by its own recipe."""

    def __init__(self, model: Model, label: str | None, seed: int) -> None:
        self.model, self.plan = model, model.recipe.sampling_plan()
        self.energy = model.fixed(label)
        self.generator = seeded(seed, model.device)

    def over_time(self, count: int) -> Iterator[tuple[str, Tensor]]:
        """Chains (count, C, H, W) from noise on, and what was just done: on the flow, then in some of the rounds."""
        flow, rounds = _some(self.plan.flow.steps, FLOW_SHOWN), _some(self.plan.rounds.rounds, ROUNDS_SHOWN)
        for after, number, images in moments(self.energy, self.plan, count, self.generator):
            if after == "noise":
                yield "noise", images
            elif after == "flow" and number in flow:
                yield f"flow {number}", images
            elif after == "augmentation" and number in rounds:
                yield f"augmented {number}", images
            elif after == "round" and number in rounds:
                yield f"{self.plan.rounds.steps} steps", images
            elif after == "final steps":
                yield f"{number} more", images

    def from_one_start(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """One noise image (1, C, H, W), and what `count` chains from it become with and without augmentation.

        Raises NotDrawnError where the recipe has no augmentation.
        """
        rounds = self.plan.rounds
        sampler, augmentation = make_parts(self.plan, self.generator)
        start = start_noise(self.plan, 1, self.generator).clamp(0, 1)
        _, another = make_parts(self.plan, seeded(0, self.model.device))  # whose random numbers are its own
        if not rounds.rounds or another(start) is start:
            raise NotDrawnError("the model's recipe samples without augmentation")
        with_ = without = start.repeat(count, 1, 1, 1)
        for _ in range(rounds.rounds):
            with_ = run(sampler, self.energy, augmentation(with_), rounds.steps)
            without = run(sampler, self.energy, without, rounds.steps)
        with_, without = (run(sampler, self.energy, x, rounds.final_steps) for x in (with_, without))
        return start, with_, without

    def descent(self, x: Tensor, steps: int) -> Tensor:
        """Images (B, C, H, W) after steps down the energy's gradient without noise, of the recipe's own size.

        Raises NotDrawnError for a sampler that has no step size.
        """
        plan = self.plan
        if plan.flow.steps:
            size = plan.flow.time / plan.flow.steps
        elif isinstance(plan.sampler.options, HasStepSize):
            size = plan.sampler.options.step_size
        else:
            raise NotDrawnError(f"the sampler {plan.sampler.name} has no step size")
        x = x.to(self.model.device)
        for _ in range(steps):
            x = (x - size * energy_gradient(self.energy, x)).clamp(0, 1)
        return x.detach()


def _some(total: int, shown: int) -> set[int]:
    """Up to `shown` of the numbers 1 to `total`, evenly spread, the last among them."""
    return {round(total * part / shown) for part in range(1, shown + 1)} - {0}
