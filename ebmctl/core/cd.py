"""Improved contrastive divergence: the paper's objective."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Generator, Iterator, Mapping

import torch
from torch import Tensor

from ebmctl.core.buffer import ReplayBuffer
from ebmctl.core.config import CDConfig, ICDConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork, frozen
from ebmctl.core.langevin import Sampler, run
from ebmctl.core.noise import uniform_noise
from ebmctl.core.objective import Freeze, LossTerm, Objective
from ebmctl.core.rows import bytes_each, even_part, rows_that_fit
from ebmctl.core.sampling import Augmentation

USUAL_CHUNK = 32


class ImprovedCD(Objective):
    """The objective "icd": Algorithm 1 of the paper, with the replay buffer B that is kept from batch to batch.

    `fitted` is the chunk of the KL loss that was chosen by the memory of a GPU.
    """

    buffer: ReplayBuffer
    fitted: int | None = None

    def __init__(
        self, config: ICDConfig, shape: tuple[int, int, int], sampler: Sampler, augmentation: Augmentation
    ) -> None:
        if config.kl_loss and not sampler.differentiable:
            raise ValueError(
                "the KL loss goes back through the sampler, and this sampler is not differentiable: "
                "choose the sampler 'langevin', or set objective.kl_loss=false"
            )
        self.config, self.sampler, self.augmentation = config, sampler, augmentation
        self.generator = sampler.generator
        self.buffer = ReplayBuffer(config.buffer_size, shape, config.buffer_policy, self.generator.device)

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """Algorithm 1 for one batch of data (B, C, H, W) in [0, 1], with labels (B, L) where the network takes them.

        Yields L_KL and L_CD term by term, so that one graph can be freed before the next is built: the caller sums the
        terms' parameter gradients.
        """
        energy = Conditioned(network, label)  # E_theta
        fixed = Conditioned(freeze(network), label)  # E_Omega(theta), without a gradient to the parameters
        x = self.augmentation(self.chain_starts(positives))  # x~0 from B, augmented, or from noise
        past = self.past_samples()  # X from B, augmented
        x = run(self.sampler, fixed, x, self.config.steps - self.steps_with_gradient)  # Langevin steps ...
        x = yield from self.kl_losses(energy, fixed, x, past)  # ... the last of them carries a gradient to theta
        del fixed  # memory for the graphs to come
        yield contrastive_loss(energy, positives, +1, "data", self.config)
        term = contrastive_loss(energy, x, -1, "samples", self.config)
        yield term._replace(logs=term.logs | {"buffer": torch.tensor(len(self.buffer))})
        self.buffer.add(x, self.generator)  # last: a caller that stops at a bad loss keeps a good buffer

    def chain_starts(self, like: Tensor) -> Tensor:
        """Where the chains begin, (B, C, H, W): in the buffer, or with a small probability (or always) in noise."""
        noise = uniform_noise(len(like), like.shape[1:], self.generator)
        if self.config.start == "noise" or not len(self.buffer):
            return noise
        fresh = torch.rand(len(like), generator=self.generator, device=like.device) < self.config.noise_probability
        return torch.where(fresh[:, None, None, None], noise, self.buffer.draw(len(like), self.generator))

    def past_samples(self) -> Tensor | None:
        """The set X of Algorithm 1 (B in Equation 8): past samples, augmented as they are drawn; None while too few."""
        config, count = self.config, len(self.buffer)
        enough = count and count >= min(config.entropy_after, config.buffer_size)
        if not (config.kl_loss and config.kl_entropy and enough):
            return None
        return self.augmentation(self.buffer.draw(config.entropy_neighbors, self.generator))

    @property
    def steps_with_gradient(self) -> int:
        """How many steps at a chain's end the KL loss goes back through."""
        return (self.config.steps if self.config.kl_steps == "all" else 1) if self.config.kl_loss else 0

    def kl_losses(
        self, energy: Conditioned, fixed: Conditioned, x: Tensor, past: Tensor | None
    ) -> Generator[LossTerm, None, Tensor]:
        """The last steps of chains x (B, C, H, W) with L_KL, a few samples at a time; returns the negative samples.

        All graphs of a batch at once would need too much memory: `kl_rows` says which samples go together.
        """
        negatives = []
        for rows, share in kl_rows(len(x), self.config, self.chunk):
            sample, here = x[rows], fixed[rows]
            if not share:  # these take no part in the KL loss
                negatives.append(run(self.sampler, here, sample, self.steps_with_gradient))
                continue
            for _ in range(self.steps_with_gradient):
                sample = self.sampler.step(energy[rows], sample, create_graph=True)
            negatives.append(sample.detach())
            yield kl_loss(here, sample, past, share, self.config)
        return torch.cat(negatives)

    @property
    def chunk(self) -> int:
        """How many samples of the KL loss have their graphs at a time."""
        return self.config.kl_chunk or self.fitted or USUAL_CHUNK

    def fit_memory(self, network: EnergyNetwork, label: Tensor | None, batch: int, free: int) -> None:
        """Choose the chunk, where the recipe does not: all samples, or a half, a quarter ... of them."""
        if self.config.kl_chunk or not self.config.kl_loss:
            return
        shape, device = tuple(self.buffer.images.shape[1:]), self.generator.device
        each = self.steps_with_gradient * bytes_each(Conditioned(network, label), shape, device, create_graph=True)
        self.fitted = even_part(min(batch, self.config.kl_samples), rows_that_fit(free, each))

    def need_less_memory(self) -> str:
        """Halve the chunk, if it was chosen."""
        if self.config.kl_chunk or self.fitted in (None, 1):
            return ""
        self.fitted = even_part(self.chunk, self.chunk - 1)
        return f"the KL loss takes {self.fitted} samples at a time"

    @property
    def chain_steps(self) -> int:
        """K."""
        return self.config.steps

    def with_chain_steps(self, steps: int) -> Objective:
        """See `Objective.with_chain_steps`."""
        made = copy.copy(self)
        made.config = dataclasses.replace(self.config, steps=steps)
        return made

    def preview(self, count: int) -> Tensor | None:
        """Some of the newest negative samples, (at most count, C, H, W) in [0, 1]."""
        return self.buffer.newest[:count].float() / 255

    def state_dict(self) -> dict[str, Tensor]:
        """The replay buffer, and the chunk that was chosen: the random numbers depend on it."""
        chosen = {} if self.fitted is None else {"chunk": torch.tensor(self.fitted)}
        return self.buffer.state_dict() | chosen

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Load the state; raises ValueError where the replay buffer is of another shape."""
        self.buffer.load_state_dict(state)
        if self.fitted is not None and "chunk" in state:
            self.fitted = int(state["chunk"])


class ContrastiveDivergence(ImprovedCD):
    """The objective "cd": the same without the KL loss."""

    def __init__(
        self, config: CDConfig, shape: tuple[int, int, int], sampler: Sampler, augmentation: Augmentation
    ) -> None:
        super().__init__(ICDConfig(**dataclasses.asdict(config), kl_loss=False), shape, sampler, augmentation)


def contrastive_loss(energy: Conditioned, x: Tensor, sign: int, name: str, config: CDConfig) -> LossTerm:
    """One side of L_CD (Equation 5): the mean energy of the data (+) or, negated, of the samples (-).

    The authors add the mean square of the energies, which keeps them near 0; they average over scales.
    """
    terms = energy.terms(x)  # (B, S)
    mean, square = terms.mean(), terms.square().mean()
    logs = {
        f"energy_{name}_scales": terms.detach().mean(0),
        f"energy_{name}": terms.detach().sum(1).mean(),
        "loss_cd": sign * mean.detach(),
        "loss_regularizer": config.energy_regularizer * square.detach(),
    }
    return LossTerm("cd", sign * mean + config.energy_regularizer * square, logs)


def kl_loss(fixed: Conditioned, sample: Tensor, past: Tensor | None, share: float, config: ICDConfig) -> LossTerm:
    """L_KL (Equation 6) on samples that carry the sampler's gradient, weighted by their share of all such samples.

    Its energy part (Equation 7) is their energy under fixed parameters, averaged over scales as the authors do.
    """
    loss = share * config.kl_energy * fixed.terms(sample).mean()
    logs = {"loss_kl": loss.detach()}
    if past is not None:
        entropy = share * config.kl_entropy * entropy_loss(sample, past)
        logs["loss_entropy"] = entropy.detach()
        loss = loss + entropy
    return LossTerm("kl", loss, logs)


def entropy_loss(x: Tensor, past: Tensor) -> Tensor:
    """Equation 8: minus the mean log distance (L2) of samples x (B, ...) to the nearest of past samples (N, ...).

    It falls as the samples spread out. A distance of 0 counts as 1e-6, with no gradient.
    """
    distance = torch.cdist(x.flatten(1), past.flatten(1)).amin(1)  # (B,)
    return -distance.clamp_min(1e-6).log().mean()


def kl_rows(batch: int, config: ICDConfig, chunk: int) -> Iterator[tuple[slice, float]]:
    """Slices of a batch with their share in the KL loss: its samples chunk by chunk, then the rest with share 0."""
    count = min(batch, config.kl_samples) if config.kl_loss else 0
    for low in range(0, count, chunk):
        high = min(low + chunk, count)
        yield slice(low, high), (high - low) / count
    if count < batch:
        yield slice(count, batch), 0.0
