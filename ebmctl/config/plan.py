"""How images are sampled: everything that a model's recipe says about it, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ebmctl.config import conversion, registry
from ebmctl.config.parts import Part
from ebmctl.core.config import FlowConfig, SampleConfig
from ebmctl.errors import UsageError

FLOW_FRAMES = 20  # of a flow that are shown


@dataclass(frozen=True)
class SamplingPlan:
    """Images of a shape (C, H, W), by a flow from noise and by rounds of augmentation and sampler steps (Algorithm 2).

    Either may have no steps, but not both.
    """

    shape: tuple[int, int, int]
    flow: FlowConfig
    rounds: SampleConfig
    sampler: Part
    augment: Part

    def __post_init__(self) -> None:
        if not self.flow.steps and not self.rounds.total:
            raise ValueError("flow.steps, sampling.rounds, steps and final_steps add up to no step at all")

    def changed(
        self,
        *,
        flow_steps: int | None = None,
        rounds: int | None = None,
        steps: int | None = None,
        final_steps: int | None = None,
        sampler: str | None = None,
        sampler_options: Mapping[str, Any] | None = None,
    ) -> SamplingPlan:
        """The same plan with what is given and not None.

        `sampler` names another sampler, a plugin's too, and `sampler_options` its settings. Raises UsageError for a
        sampler or a setting that is not known.
        """
        entry = registry.find("sampler", sampler or self.sampler.name)
        own = conversion.plain(self.sampler.options) if entry.name == self.sampler.name else {}
        options: Any = conversion.build(entry.load_options(), {**own, **(sampler_options or {})}, "sampler")
        given = {"rounds": rounds, "steps": steps, "final_steps": final_steps}
        try:
            return replace(
                self,
                flow=replace(self.flow, steps=self.flow.steps if flow_steps is None else flow_steps),
                rounds=replace(self.rounds, **{key: value for key, value in given.items() if value is not None}),
                sampler=Part(entry.name, options),
            )
        except ValueError as error:
            raise UsageError(f"sampling: {error}") from error

    @property
    def gradients(self) -> int:
        """How often the energy's gradient to an image is taken, by a sampler that does it once a step."""
        return self.flow.steps * (2 if self.flow.method == "heun" else 1) + self.rounds.total

    @property
    def lengths(self) -> dict[str, int]:
        """The numbers of steps and rounds by the names that `changed` has for them."""
        rounds = self.rounds
        return {
            "flow_steps": self.flow.steps,
            "rounds": rounds.rounds,
            "steps": rounds.steps,
            "final_steps": rounds.final_steps,
        }

    @property
    def shown_steps(self) -> set[int]:
        """The steps of the flow after which the images are shown, where a whole chain is."""
        return {round(self.flow.steps * part / FLOW_FRAMES) for part in range(1, FLOW_FRAMES + 1)} - {0}

    @property
    def frames(self) -> int:
        """How many pictures of its chains are shown, the noise included."""
        return 1 + len(self.shown_steps) + self.rounds.rounds + bool(self.rounds.final_steps)

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as a recipe file holds them."""
        parts = {"sampler": self.sampler.to_mapping(), "augment": self.augment.to_mapping()}
        return {"flow": conversion.plain(self.flow), "sampling": conversion.plain(self.rounds), **parts}
