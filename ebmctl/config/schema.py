"""What a recipe is: frozen dataclasses, each checked where it is made.

The text under a field is its meaning, which the documentation's reference shows; its type may tell a range.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from ebmctl.config import conversion
from ebmctl.config.dataset import DatasetName
from ebmctl.config.parts import Part
from ebmctl.config.plan import SamplingPlan
from ebmctl.core.config import FlowConfig, SampleConfig
from ebmctl.core.ranges import (
    Checked,
    Count,
    Decay,
    Natural,
    NotNegative,
    OneOf,
    Positive,
    PositiveShare,
    Range,
    Share,
)


@dataclass(frozen=True)
class DataConfig(Checked):
    """The images, and what of their labels the energy is told."""

    name: str = ""
    """The dataset; `ebmctl train` writes it here."""
    size: Annotated[int, Range(4, 1024)] = 32
    """Height and width in pixels."""
    channels: Annotated[int, OneOf((1, 3))] = 3
    """1 for grey, 3 for colour."""
    label: str = ""
    """The attribute whose values condition the energy, or `"class"` for the dataset's classes; empty: an unconditional
    model."""
    label_dropout: Share = 0.0
    """The share of images whose label is zero in training, so that the network learns the energy of all of them too,
    which `compose` counts once."""
    dequantize: bool = True
    """Whether uniform noise of one grey level is added to the 8-bit values."""
    workers: Natural = 0
    """Processes that read images ahead."""

    @property
    def dataset(self) -> DatasetName:
        """The name as a value."""
        return DatasetName.parse(self.name)


@dataclass(frozen=True)
class OptimizerConfig(Checked):
    """Adam, and the average of the weights (EMA) that is the model."""

    lr: Positive = 2e-4
    """The learning rate."""
    decay: Literal["none", "cosine"] = "none"
    """How the learning rate falls: `"cosine"`: to 0 over the phase."""
    betas: tuple[Decay, Decay] = (0.0, 0.9)
    """Adam's decays of the gradient's mean and square."""
    eps: Positive = 1e-8
    """What Adam adds to the root of the square."""
    clip: NotNegative = 0.5
    """The norm that the gradient is clipped to; 0: none."""
    batch_size: Count = 128
    """Images of a step, in each process."""
    ema: Decay = 0.9999
    """The decay of the EMA; 0: no average."""


@dataclass(frozen=True)
class RunConfig(Checked):
    """Length and bookkeeping of a run, in training steps."""

    steps: Count = 100_000
    """How many steps the run has."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """The seed of all randomness."""
    checkpoint_every: Count = 1_000
    """Steps from one checkpoint to the next."""
    keep_checkpoints: Count = 2
    """How many of the last checkpoints are kept."""
    preview_every: Count = 1_000
    """Steps from one picture of samples to the next."""
    energy_bound: Positive = 10.0
    """Training has diverged where the mean energy of the data (per scale) leaves [-energy_bound, energy_bound]."""
    phases_by: Literal["steps", "time"] = "steps"
    """What the phases' shares are of: the steps, or the time (`--time`) where one is given."""
    init: str = ""
    """A model that training starts from."""
    freeze_init: bool = False
    """Whether the weights of `init` stay as they are, and only what labels add is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.freeze_init and not self.init:
            raise ValueError("freeze_init needs init, the model whose weights stay")


@dataclass(frozen=True)
class GuardConfig(Checked):
    """What counts as divergence, besides energies that are not numbers or leave the bound; and what is done then.

    The run goes back to its last good checkpoint with a new seed and a lower learning rate.
    """

    tries: Natural = 3
    """How often the run goes back, in all; then it ends with an error."""
    lr_factor: PositiveShare = 0.5
    """What the learning rate is multiplied by each time that the run goes back."""
    window: Count = 20
    """The last steps whose mean energy difference is looked at."""
    difference: NotNegative = 5.0
    """What the mean energy difference may reach; 0 switches the check off."""
    spread: NotNegative = 1e-3
    """The standard deviation that the newest negative samples have from one another at least; 0 switches the check
    off."""
    distance: NotNegative = 0.0
    """The mean distance of the newest negative samples to the nearest other at least, per root of the number of values;
    0 switches the check off."""


EVAL_DISTANCE, EVAL_SCORE = "eval_distance", "eval_score"
"""What the metrics of a step call the figures of the quick score."""


@dataclass(frozen=True)
class EvalConfig(Checked):
    """A quick score while training: how far images drawn from the averaged weights are from as many held-out ones.

    The run's best model is then the one whose Fréchet distance was the smallest.
    """

    every: Natural = 0
    """Steps from one score to the next; 0: never."""
    n: Annotated[int, Range(10)] = 256
    """How many images are drawn."""
    extractor: str = ""
    """What looks at the images, as `ebmctl evaluate --extractor` takes it; empty: its default."""


@dataclass(frozen=True)
class OodConfig:
    """How models of the recipe tell outliers."""

    score: str = "energy"
    """The score where none is asked for: energy, typicality, gradient, or of a network of several scales scale-0,
    scale-1, ..."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"energy|typicality|gradient|scale-\d+", self.score):
            raise ValueError(f"score is energy, typicality, gradient or scale-N, not {self.score!r}")


@dataclass(frozen=True)
class ComposeConfig(Checked):
    """How strongly a concept's model speaks in a composition where the command does not say."""

    strength: Positive = 1.0
    """The weight of what its label adds to the energy of all images."""
    or_temperature: Positive = 1.0
    """The temperature of OR."""


@dataclass(frozen=True)
class Phase(Checked):
    """A share of a run with an objective and optimiser settings of its own.

    What a phase does not say it takes from the recipe's `optimizer`, and from its `objective` where that has the same
    name.
    """

    share: PositiveShare
    """How much of the run; the shares of all phases add up to 1."""
    objective: Part
    """Its objective, with the keys of the section `objective`."""
    optimizer: OptimizerConfig
    """Its optimiser settings, with the keys of the section `optimizer`."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, but for the device."""

    about: str
    """One line on what the recipe is."""
    data: DataConfig
    """The images."""
    network: Part
    """The architecture."""
    objective: Part
    """What training minimises."""
    sampler: Part
    """How chains move, in training and when a model is sampled."""
    augment: Part
    """What happens to the images of chains between rounds of sampler steps."""
    flow: FlowConfig
    """The way from noise to images that sampling starts with."""
    sampling: SampleConfig
    """The rounds of augmentation and sampler steps that sampling goes on with; the flow and they are not both without
    a step."""
    optimizer: OptimizerConfig
    """Adam, and the average of the weights."""
    run: RunConfig
    """Length and bookkeeping."""
    guard: GuardConfig = GuardConfig()
    """What is done when training diverges."""
    eval: EvalConfig = EvalConfig()
    """The quick score while training."""
    ood: OodConfig = OodConfig()
    """How its models tell outliers."""
    compose: ComposeConfig = ComposeConfig()
    """How its models speak in a composition."""
    phases: tuple[Phase, ...] = ()
    """Parts of the run with objectives of their own, which start from `objective` and `optimizer`; without phases the
    whole run has these."""

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
