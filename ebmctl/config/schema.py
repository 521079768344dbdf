"""What a recipe is: frozen dataclasses, each checked where it is made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from ebmctl.config import conversion
from ebmctl.config.dataset import DatasetName
from ebmctl.config.parts import Part
from ebmctl.config.plan import SamplingPlan
from ebmctl.core.config import FlowConfig, SampleConfig


@dataclass(frozen=True)
class DataConfig:
    """Images: the dataset's name, their size in pixels, 1 or 3 channels.

    `label` names the attribute whose values condition the energy, or "class" for the dataset's classes; empty: an
    unconditional model. For a share of `label_dropout` of the images the label is zero, so that the network learns the
    energy of all of them too, which `compose` counts once. `dequantize` adds uniform noise of one grey level to the
    8-bit values. `workers` is the number of processes that read images ahead.
    """

    name: str = ""
    size: int = 32
    channels: int = 3
    label: str = ""
    label_dropout: float = 0.0
    dequantize: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(f"channels is 1 or 3, not {self.channels}")
        if not 4 <= self.size <= 1024:
            raise ValueError(f"size is between 4 and 1024 pixels, not {self.size}")
        if not 0 <= self.label_dropout <= 1:
            raise ValueError(f"label_dropout is between 0 and 1, not {self.label_dropout}")
        if self.workers < 0:
            raise ValueError(f"workers is 0 or more, not {self.workers}")

    @property
    def dataset(self) -> DatasetName:
        """The name as a value."""
        return DatasetName.parse(self.name)


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam, the clipping of the gradient's norm (0: none), the batch size, and the decay of the EMA (0: none).

    With `decay` "cosine" the learning rate falls to 0 over the phase.
    """

    lr: float = 2e-4
    decay: Literal["none", "cosine"] = "none"
    betas: tuple[float, float] = (0.0, 0.9)
    eps: float = 1e-8
    clip: float = 0.5
    batch_size: int = 128
    ema: float = 0.9999

    def __post_init__(self) -> None:
        if not self.lr > 0 or not self.eps > 0 or self.batch_size < 1 or self.clip < 0:
            raise ValueError("lr and eps are above 0, batch_size at least 1, clip 0 or more")
        if not all(0 <= b < 1 for b in (*self.betas, self.ema)):
            raise ValueError("betas and ema are 0 or more, and under 1")


@dataclass(frozen=True)
class RunConfig:
    """Length and bookkeeping of a run, in training steps.

    Training ends with an error where the mean energy of the data (per scale) leaves [-energy_bound, energy_bound].
    Phases go by their share of the steps, or of the time where one is given and `phases_by` is "time". `init` names a
    model that training starts from; with `freeze_init` its weights stay as they are, and only what labels add is
    trained.
    """

    steps: int = 100_000
    seed: int = 0
    checkpoint_every: int = 1_000
    keep_checkpoints: int = 2
    preview_every: int = 1_000
    energy_bound: float = 10.0
    phases_by: Literal["steps", "time"] = "steps"
    init: str = ""
    freeze_init: bool = False

    def __post_init__(self) -> None:
        if min(self.steps, self.checkpoint_every, self.keep_checkpoints, self.preview_every) < 1:
            raise ValueError("steps, checkpoint_every, keep_checkpoints and preview_every are at least 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed is between 0 and 2^63 - 1, not {self.seed}")
        if not self.energy_bound > 0:
            raise ValueError(f"energy_bound is above 0, not {self.energy_bound}")
        if self.freeze_init and not self.init:
            raise ValueError("freeze_init needs init, the model whose weights stay")


@dataclass(frozen=True)
class GuardConfig:
    """What counts as divergence, besides energies that are not numbers or leave the bound; and what is done then.

    The mean energy difference of the last `window` steps may reach `difference`; the newest negative samples must
    have a standard deviation of at least `spread` from one another, and a mean distance (per root of the number of
    values) of at least `distance` to the nearest other. 0 switches a check off. The run then goes back to its last
    good checkpoint with a new seed and `lr_factor` times the learning rate, at most `tries` times in all.
    """

    tries: int = 3
    lr_factor: float = 0.5
    window: int = 20
    difference: float = 5.0
    spread: float = 1e-3
    distance: float = 0.0

    def __post_init__(self) -> None:
        if self.tries < 0 or self.window < 1 or min(self.difference, self.spread, self.distance) < 0:
            raise ValueError("tries, difference, spread and distance are 0 or more, window is at least 1")
        if not 0 < self.lr_factor <= 1:
            raise ValueError(f"lr_factor is above 0 and up to 1, not {self.lr_factor}")


EVAL_DISTANCE, EVAL_SCORE = "eval_distance", "eval_score"
"""What the metrics of a step call the figures of the quick score."""


@dataclass(frozen=True)
class EvalConfig:
    """A quick score while training: how far `n` images drawn from the averaged weights are from as many held-out ones.

    It is taken every `every` steps (0: never), and the run's best model is then the one whose Fréchet distance was the
    smallest. `extractor` is what looks at the images, as `ebmctl evaluate --extractor` takes it; empty: its default.
    """

    every: int = 0
    n: int = 256
    extractor: str = ""

    def __post_init__(self) -> None:
        if self.every < 0 or self.n < 10:
            raise ValueError("every is 0 or more, n at least 10")


@dataclass(frozen=True)
class OodConfig:
    """The score by which models of the recipe tell outliers where none is asked for: energy, typicality, gradient, or
    scale-0, scale-1, ... of a network of several scales.
    """

    score: str = "energy"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"energy|typicality|gradient|scale-\d+", self.score):
            raise ValueError(f"score is energy, typicality, gradient or scale-N, not {self.score!r}")


@dataclass(frozen=True)
class ComposeConfig:
    """How strongly a concept's model speaks in a composition where the command does not say.

    `strength` weighs what its label adds to the energy of all images, and `or_temperature` is that of OR.
    """

    strength: float = 1.0
    or_temperature: float = 1.0

    def __post_init__(self) -> None:
        if not min(self.strength, self.or_temperature) > 0:
            raise ValueError("strength and or_temperature are above 0")


@dataclass(frozen=True)
class Phase:
    """A share of a run with an objective and optimiser settings of its own."""

    share: float
    objective: Part
    optimizer: OptimizerConfig

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is above 0 and up to 1, not {self.share}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, but for the device.

    Without `phases` the whole run has `objective` and `optimizer`; with them, these are what phases start from.
    """

    about: str
    data: DataConfig
    network: Part
    objective: Part
    sampler: Part
    augment: Part
    flow: FlowConfig
    sampling: SampleConfig
    optimizer: OptimizerConfig
    run: RunConfig
    guard: GuardConfig = GuardConfig()
    eval: EvalConfig = EvalConfig()
    ood: OodConfig = OodConfig()
    compose: ComposeConfig = ComposeConfig()
    phases: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        if not math.isclose(total := sum(phase.share for phase in self.schedule), 1):
            raise ValueError(f"the shares of the phases add up to {total:g}, not to 1")
        self.sampling_plan()  # which has a step

    @property
    def schedule(self) -> tuple[Phase, ...]:
        """The phases, one or more."""
        return self.phases or (Phase(1.0, self.objective, self.optimizer),)

    @property
    def parts(self) -> list[tuple[str, str]]:
        """What the recipe names in the registry, as (kind, name)."""
        return [
            ("architecture", self.network.name),
            ("sampler", self.sampler.name),
            ("augmentation", self.augment.name),
            *(("objective", objective.name) for objective in (self.objective, *(p.objective for p in self.phases))),
            ("dataset", self.data.name),
        ]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (self.data.channels, self.data.size, self.data.size)

    def sampling_plan(self, **changes: Any) -> SamplingPlan:
        """How a trained model's images are drawn; `changes` are those of `SamplingPlan.changed`."""
        plan = SamplingPlan(self.shape, self.flow, self.sampling, self.sampler, self.augment)
        return plan.changed(**changes) if changes else plan

    def phase_at(self, progress: float) -> tuple[int, float]:
        """Which phase a share of the run, in [0, 1), falls into, and how much of that phase is then done."""
        start = 0.0
        for index, phase in enumerate(self.schedule):
            within = (progress - start) / phase.share
            if within < 1 - 1e-9 or index + 1 == len(self.schedule):
                return index, min(max(within, 0.0), 1.0)
            start += phase.share
        raise AssertionError

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as a recipe file holds them."""
        result: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Part):
                result[item.name] = value.to_mapping()
            elif isinstance(value, tuple):
                result |= {item.name: [_phase_mapping(phase) for phase in value]} if value else {}
            else:
                result[item.name] = value if isinstance(value, str) else conversion.plain(value)
        return result


def _phase_mapping(phase: Phase) -> dict[str, Any]:
    return {
        "share": phase.share,
        "objective": phase.objective.to_mapping(),
        "optimizer": conversion.plain(phase.optimizer),
    }
