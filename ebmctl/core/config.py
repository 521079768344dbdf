"""The settings of what `core` does, each checked where it is made. Importing them does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Norm = Literal["auto", "instance", "group", "none"]
Policy = Literal["reservoir", "fifo"]
MAX_WIDTH, MAX_BLOCKS = 16_384, 1_000  # far beyond use; a file that asks for more is wrong, or means harm
HEAD_GROUPS = 8  # of channels, in the norms of a label head


def _check(config: Any, low: float, names: str, high: float = float("inf")) -> None:
    for name in names.split():
        value = getattr(config, name)
        if not low <= value <= high:
            bound = f"at least {low}" if high == float("inf") else f"between {low} and {high}"
            raise ValueError(f"{name} is {bound}, not {value}")


@dataclass(frozen=True)
class ResidualConfig:
    """The shape of a `ResidualEnergy`.

    Stage i is `blocks[i]` residual blocks, one more that ends in a `Downsample` to `width * multipliers[i]` channels
    and half the size. `attention` counts the stages before the self-attention (0: none), which only the scale of the
    full image has. Scale s sees the image at 1/2^s of its size and has s stages fewer. With a `coarse_width` above 0
    the coarser scales start with that width, and keep weight standardisation and the "auto" norm whatever the full
    scale has, as in the authors' networks for CelebA-HQ, LSUN, ImageNet and objects.
    """

    width: int = 64
    blocks: tuple[int, ...] = (1, 1, 1, 1)
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    attention: int = 2
    scales: int = 3
    norm: Norm = "auto"
    spectral_norm: bool = False
    coarse_width: int = 0

    def __post_init__(self) -> None:
        _check(self, 1, "width", MAX_WIDTH)
        _check(self, 0, "coarse_width", MAX_WIDTH)
        if not self.blocks or min(self.blocks) < 0 or min(self.multipliers, default=0) < 1:
            raise ValueError("blocks has a number of 0 or more for each stage, multipliers one of 1 or more")
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"blocks has {len(self.blocks)} stages and multipliers {len(self.multipliers)}")
        if sum(self.blocks) + len(self.blocks) > MAX_BLOCKS or self.width * max(self.multipliers) > MAX_WIDTH:
            raise ValueError(f"a network has at most {MAX_BLOCKS} blocks, of at most {MAX_WIDTH} channels")
        _check(self, 1, "scales", len(self.blocks))
        _check(self, 0, "attention", len(self.blocks))


@dataclass(frozen=True)
class DenoisingConfig:
    """The shape of a `DenoisingEnergy`.

    `widths` are the U-Net's channels, from the full image on, each stage at half the size of the one before; `middle`
    is the number of residual blocks at the smallest. `scale` is where the energy's scale starts: under Energy Matching
    the length of its gradient, as the root mean square of image less noise; `tip` rounds the cone's tip, in squared
    distance: without it the gradient has any direction at full length where an image is almost its own denoised
    version, and training on smooth images becomes unstable. Labels set gains and biases in the blocks,
    or with a `label_head`, the width of a small classifier, they have an energy of their own that is added.
    """

    widths: tuple[int, ...] = (24, 48, 72)
    middle: int = 1
    norm: Norm = "auto"
    scale: float = 0.55
    tip: float = 1.0
    label_head: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.widths) <= 8 or min(self.widths) < 1 or max(self.widths) > MAX_WIDTH:
            raise ValueError(f"widths has one to eight numbers, of 1 to {MAX_WIDTH}")
        _check(self, 1, "middle", MAX_BLOCKS)
        _check(self, 0, "label_head", MAX_WIDTH)
        if self.label_head % HEAD_GROUPS:
            raise ValueError(f"label_head is a multiple of {HEAD_GROUPS}, not {self.label_head}")
        if not self.scale > 0 or not self.tip > 0:
            raise ValueError(f"scale and tip are above 0, not {self.scale} and {self.tip}")


@dataclass(frozen=True)
class LangevinConfig:
    """Langevin dynamics: the step's size, the standard deviation of its noise, and whether to clamp to [0, 1]."""

    step_size: float = 100.0
    noise: float = 0.001
    clamp: bool = True

    def __post_init__(self) -> None:
        _check(self, 0, "step_size noise")


@dataclass(frozen=True)
class AugmentConfig:
    """What an augmentation of the chains does; `enabled=False` switches all of it off.

    `crop` is the smallest share of the image's area that a crop keeps (1: no crop), `flip` the probability of a
    horizontal flip, `color` the strength of SimCLR's colour distortion (0: none) with its probability, `grey` the
    probability of losing the colour, `blur` that of a Gaussian blur.
    """

    enabled: bool = True
    crop: float = 0.08
    flip: float = 0.5
    color: float = 1.0
    color_probability: float = 0.8
    grey: float = 0.2
    blur: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"crop is a share of the image's area above 0 and up to 1, not {self.crop}")
        _check(self, 0, "flip color_probability grey blur", 1)
        _check(self, 0, "color", 1.25)  # a hue turns by at most half a circle


@dataclass(frozen=True)
class SampleConfig:
    """Algorithm 2: `rounds` times an augmentation and `steps` sampler steps, then `final_steps` without the former."""

    rounds: int = 10
    steps: int = 20
    final_steps: int = 80

    def __post_init__(self) -> None:
        _check(self, 0, "rounds steps final_steps")

    @property
    def total(self) -> int:
        """All sampler steps."""
        return self.rounds * self.steps + self.final_steps


@dataclass(frozen=True)
class CDConfig:
    """The chains of contrastive divergence, and its loss without the KL term.

    `steps` is K. Chains start in the replay buffer, save for a share of `noise_probability`, or always in noise.
    """

    steps: int = 40
    start: Literal["buffer", "noise"] = "buffer"
    noise_probability: float = 0.001
    buffer_size: int = 10_000
    buffer_policy: Policy = "reservoir"
    energy_regularizer: float = 1.0

    def __post_init__(self) -> None:
        _check(self, 1, "steps buffer_size")
        _check(self, 0, "energy_regularizer")
        _check(self, 0, "noise_probability", 1)


@dataclass(frozen=True)
class ICDConfig(CDConfig):
    """The chains and all of the losses of Algorithm 1.

    The KL loss (`kl_loss` switches it off) has an energy part and an entropy part with a weight each; it is taken on
    at most `kl_samples` samples of a batch and goes back through the last sampler step, or through all of them. The
    graphs of `kl_chunk` samples at a time are built: the same gradient with less memory. Its entropy part compares
    with `entropy_neighbors` past samples once the buffer has `entropy_after`.
    """

    kl_loss: bool = True
    kl_energy: float = 1.0
    kl_entropy: float = 0.3
    kl_samples: int = 128
    kl_steps: Literal["last", "all"] = "last"
    kl_chunk: int = 32
    entropy_neighbors: int = 100
    entropy_after: int = 1_000

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, 1, "kl_samples kl_chunk entropy_neighbors")
        _check(self, 0, "kl_energy kl_entropy entropy_after")


@dataclass(frozen=True)
class FlowConfig:
    """The flow dx = -grad E(x) dt + sqrt(2 T(t)) dW, in `steps` equal steps up to `time`; no flow with 0 steps.

    T is 0 up to the time `cutoff`, then rises to `temperature` at time 1. With images in [0, 1] it is a quarter of
    the publication's, whose images are in [-1, 1].
    """

    steps: int = 0
    time: float = 1.0
    method: Literal["heun", "euler"] = "heun"
    temperature: float = 0.0
    cutoff: float = 1.0

    def __post_init__(self) -> None:
        _check(self, 0, "steps temperature")
        _check(self, 0, "cutoff", 1)
        if not self.time > 0:
            raise ValueError(f"time is above 0, not {self.time}")


@dataclass(frozen=True)
class MatchingConfig:
    """Energy Matching. `pairing` joins noise and data of a batch by optimal transport, or as they come.

    `matching_weight` is that of the transport's loss; 0 leaves it out, for labels that are added to a trained energy.
    With a `cd_weight` above 0 contrastive divergence near the data is added, its weighted difference of energies
    never under `-cd_clamp` (0: no clamp). Its chains follow the flow for `steps` Euler-Maruyama steps of `step_time`,
    a share of `from_data` from the data at time 1, the others from noise at time 0. With a `label_weight` above 0 a
    conditional energy is also asked which label an image has, p(c given x) proportional to exp(-E(x given c) / T); the
    temperature falls along the way from noise to data, down to `label_temperature`. It is asked on the last
    `label_span` of the way, which is all of it at 1; a label that noise hides is learnt on less.
    """

    pairing: Literal["optimal", "independent"] = "optimal"
    matching_weight: float = 1.0
    cd_weight: float = 0.0
    cd_clamp: float = 0.005
    steps: int = 200
    step_time: float = 0.01
    temperature: float = 0.0025
    cutoff: float = 1.0
    from_data: float = 0.5
    label_weight: float = 0.0
    label_temperature: float = 0.0625
    label_span: float = 1.0

    def __post_init__(self) -> None:
        _check(self, 0, "matching_weight cd_weight cd_clamp temperature label_weight")
        if not self.matching_weight + self.cd_weight + self.label_weight:
            raise ValueError("one of matching_weight, cd_weight and label_weight is above 0")
        _check(self, 0, "cutoff from_data", 1)
        _check(self, 1, "steps")
        if not min(self.step_time, self.label_temperature, self.label_span) > 0 or self.label_span > 1:
            raise ValueError("step_time, label_temperature and label_span are above 0, label_span at most 1")
