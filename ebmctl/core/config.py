"""The settings of what `core` does, each checked where it is made. Importing them does not import torch.

The text under a field is its meaning, which the documentation's reference shows; its type may tell a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ebmctl.core.ranges import Checked, Count, Natural, NotNegative, Positive, PositiveShare, Range, Share

Norm = Literal["auto", "instance", "group", "none"]
Policy = Literal["reservoir", "fifo"]
MAX_WIDTH, MAX_BLOCKS = 16_384, 1_000  # far beyond use; a file that asks for more is wrong, or means harm
HEAD_GROUPS = 8  # of channels, in the norms of a label head

Width = Annotated[int, Range(1, MAX_WIDTH)]
WidthOrNone = Annotated[int, Range(0, MAX_WIDTH)]


@dataclass(frozen=True)
class ResidualConfig(Checked):
    """The shape of a `ResidualEnergy`, which has a network for each of several scales of the image.

    Scale s sees the image at 1/2^s of its size and has s stages fewer. Stage i is `blocks[i]` residual blocks, then
    one more that ends in a `Downsample` to `width * multipliers[i]` channels and half the size.
    """

    width: Width = 64
    """Channels at the start; each stage ends with a multiple of it."""
    blocks: tuple[Natural, ...] = (1, 1, 1, 1)
    """Residual blocks of each stage, besides the one that it ends in."""
    multipliers: tuple[Count, ...] = (1, 2, 4, 8)
    """Channels at each stage's end, in multiples of `width`; as many numbers as `blocks` has."""
    attention: Natural = 2
    """Stages before the self-attention, which only the scale of the full image has; 0: none."""
    scales: Count = 3
    """How many scales; at most as many as stages."""
    norm: Norm = "auto"
    """The norm of a block; `"auto"`: instance norm up to 128 channels, group norm of 32 groups above."""
    spectral_norm: bool = False
    """Spectral normalisation of the weights, in place of weight standardisation."""
    coarse_width: WidthOrNone = 0
    """Above 0: the channels that the coarser scales start with; they then keep weight standardisation and the `"auto"`
    norm whatever the full scale has, as in the authors' networks for CelebA-HQ, LSUN, ImageNet and objects."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.blocks:
            raise ValueError("blocks has a number for each stage, and at least one")
        if len(self.blocks) != len(self.multipliers):
            raise ValueError(f"blocks has {len(self.blocks)} stages and multipliers {len(self.multipliers)}")
        if sum(self.blocks) + len(self.blocks) > MAX_BLOCKS or self.width * max(self.multipliers) > MAX_WIDTH:
            raise ValueError(f"a network has at most {MAX_BLOCKS} blocks, of at most {MAX_WIDTH} channels")
        for name, low, value in (("scales", 1, self.scales), ("attention", 0, self.attention)):
            if value > len(self.blocks):
                raise ValueError(
                    f"{name} must be between {low} and {len(self.blocks)}, the number of stages, not {value}"
                )


@dataclass(frozen=True)
class DenoisingConfig(Checked):
    """The shape of a `DenoisingEnergy`: the distance of an image to its denoised version, by a U-Net.

    Labels set gains and biases in the blocks, or have an energy of their own (`label_head`).
    """

    widths: tuple[Width, ...] = (24, 48, 72)
    """The U-Net's channels, from the full image on, each stage at half the size of the one before; one to eight."""
    middle: Annotated[int, Range(1, MAX_BLOCKS)] = 1
    """Residual blocks at the smallest size."""
    norm: Norm = "auto"
    """The norm of a block; `"auto"`: instance norm up to 128 channels, group norm of 32 groups above."""
    scale: Positive = 0.55
    """Where the energy's scale starts: under Energy Matching the length of its gradient, as the root mean square of
    image less noise."""
    tip: Positive = 1.0
    """How round the cone's tip is, in squared distance. Without it the gradient has any direction at full length where
    an image is almost its own denoised version, and training on smooth images becomes unstable."""
    label_head: WidthOrNone = 0
    """Above 0: the width, a multiple of 8, of a small classifier by which labels have an energy of their own that is
    added."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= len(self.widths) <= 8:
            raise ValueError(f"widths has one to eight numbers, not {len(self.widths)}")
        if self.label_head % HEAD_GROUPS:
            raise ValueError(f"label_head is a multiple of {HEAD_GROUPS}, not {self.label_head}")


@dataclass(frozen=True)
class LangevinConfig(Checked):
    """Langevin dynamics: x - step_size * grad E(y), of y = x + noise * N(0, 1)."""

    step_size: NotNegative = 100.0
    """The step's size, by which the gradient is multiplied."""
    noise: NotNegative = 0.001
    """The standard deviation of a step's noise."""
    clamp: bool = True
    """Whether images are clamped to [0, 1] after each step."""


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """What an augmentation of the chains does to each image."""

    enabled: bool = True
    """`false` switches all of it off."""
    crop: PositiveShare = 0.08
    """The smallest share of the image's area that a crop keeps; 1: no crop."""
    flip: Share = 0.5
    """The probability of a horizontal flip."""
    color: Annotated[float, Range(0, 1.25)] = 1.0  # a hue turns by at most half a circle
    """The strength of SimCLR's colour distortion; 0: none."""
    color_probability: Share = 0.8
    """The probability of the colour distortion."""
    grey: Share = 0.2
    """The probability of losing the colour."""
    blur: Share = 0.0
    """The probability of a Gaussian blur."""


@dataclass(frozen=True)
class SampleConfig(Checked):
    """Algorithm 2: rounds of an augmentation and sampler steps, then sampler steps alone."""

    rounds: Natural = 10
    """Rounds of an augmentation and `steps` sampler steps."""
    steps: Natural = 20
    """Sampler steps of a round."""
    final_steps: Natural = 80
    """Sampler steps after the last round, without augmentation."""

    @property
    def total(self) -> int:
        """All sampler steps."""
        return self.rounds * self.steps + self.final_steps


@dataclass(frozen=True)
class CDConfig(Checked):
    """The chains of contrastive divergence, and its loss without the KL term."""

    steps: Count = 40
    """K, the sampler steps of a chain."""
    start: Literal["buffer", "noise"] = "buffer"
    """Where chains start: in the replay buffer, or always in noise."""
    noise_probability: Share = 0.001
    """The share of chains that start in noise all the same."""
    buffer_size: Count = 10_000
    """Images that the replay buffer holds."""
    buffer_policy: Policy = "reservoir"
    """What a full buffer keeps: `"reservoir"`: a uniform sample of all images ever added; `"fifo"`: the latest."""
    energy_regularizer: NotNegative = 1.0
    """The weight of the mean square of the energies, which keeps them near 0."""


@dataclass(frozen=True)
class ICDConfig(CDConfig):
    """The chains and all of the losses of Algorithm 1.

    The KL loss has an energy part and an entropy part with a weight each.
    """

    kl_loss: bool = True
    """The KL loss; `false` switches it off."""
    kl_energy: NotNegative = 1.0
    """The weight of the KL loss's energy part."""
    kl_entropy: NotNegative = 0.3
    """The weight of the KL loss's entropy part."""
    kl_samples: Count = 128
    """Samples of a batch that the KL loss is taken on, at most."""
    kl_steps: Literal["last", "all"] = "last"
    """The sampler steps that the KL loss goes back through."""
    kl_chunk: Natural = 0
    """Samples of the KL loss whose graphs are built at a time; fewer need less memory, and give the same gradient. 0:
    on a CUDA GPU as many as its free memory allows, elsewhere 32."""
    entropy_neighbors: Count = 100
    """Past samples that the entropy part compares with."""
    entropy_after: Natural = 1_000
    """Samples that the buffer has before the entropy part begins."""


@dataclass(frozen=True)
class FlowConfig(Checked):
    """The flow dx = -grad E(x) dt + sqrt(2 T(t)) dW from Gaussian noise.

    T is 0 up to the time `cutoff`, then rises to `temperature` at time 1. With images in [0, 1] it is a quarter of
    the publication's, whose images are in [-1, 1].
    """

    steps: Natural = 0
    """Equal steps up to `time`; 0: no flow."""
    time: Positive = 1.0
    """Where the flow ends."""
    method: Literal["heun", "euler"] = "heun"
    """How a step is taken; Heun's method takes two gradients."""
    temperature: NotNegative = 0.0
    """T from time 1 on."""
    cutoff: Share = 1.0
    """The time up to which T is 0."""


@dataclass(frozen=True)
class MatchingConfig(Checked):
    """Energy Matching: transport from noise to data, and as they have weights, contrastive divergence and labels.

    The chains of contrastive divergence follow the flow, by Euler-Maruyama steps, from the data at time 1 and from
    noise at time 0. With a `label_weight` a conditional energy is also asked which label an image has, p(c given x)
    proportional to exp(-E(x given c) / T). One of the three weights is above 0.
    """

    pairing: Literal["optimal", "independent"] = "optimal"
    """How noise and data of a batch are joined: by optimal transport, or as they come."""
    matching_weight: NotNegative = 1.0
    """The weight of the transport's loss; 0 leaves it out, for labels that are added to a trained energy."""
    cd_weight: NotNegative = 0.0
    """Above 0: the weight of contrastive divergence near the data."""
    cd_clamp: NotNegative = 0.005
    """How far under 0 the weighted difference of energies may go; 0: no clamp."""
    steps: Count = 200
    """Steps of the chains of contrastive divergence."""
    step_time: Positive = 0.01
    """The time that a step of the chains takes."""
    temperature: NotNegative = 0.0025
    """The temperature of the chains from time 1 on."""
    cutoff: Share = 1.0
    """The time up to which the chains' temperature is 0."""
    from_data: Share = 0.5
    """The share of the chains that start from data; the others start from noise."""
    label_weight: NotNegative = 0.0
    """Above 0: the weight of the labels' loss."""
    label_temperature: Positive = 0.0625
    """The T of labels near the data, down to which it falls along the way from noise."""
    label_span: PositiveShare = 1.0
    """The last share of the way on which labels are asked; less than 1 for a label that noise hides."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.matching_weight + self.cd_weight + self.label_weight:
            raise ValueError("one of matching_weight, cd_weight and label_weight must be above 0")
