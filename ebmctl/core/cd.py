"""Improved contrastive divergence: the paper's objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ebmctl.core.buffer import ReplayBuffer
from ebmctl.core.config import CDConfig, ICDConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork, frozen
from ebmctl.core.langevin import Sampler, run
from ebmctl.core.noise import uniform_noise
from ebmctl.core.objective import Freeze, LossTerm
from ebmctl.core.sampling import Transition


class ImprovedCD:
    """The objective "icd": `improved_cd` with the replay buffer that it keeps from batch to batch."""

    needs_labels = False

    def __init__(
        self, config: ICDConfig, shape: tuple[int, int, int], sampler: Sampler, transition: Transition
    ) -> None:
        if config.kl_loss and not sampler.differentiable:
            raise ValueError(
                "the KL loss goes back through the sampler, and this sampler is not differentiable: "
                "choose the sampler 'langevin', or set objective.kl_loss=false"
            )
        self.config, self.sampler, self.transition = config, sampler, transition
        self.buffer = ReplayBuffer(config.buffer_size, shape, config.buffer_policy, sampler.generator.device)

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """The loss terms for a batch of data (B, C, H, W) in [0, 1] with labels (B, L), or None."""
        chains = (self.buffer, self.sampler, self.transition)
        return improved_cd(network, positives, label, *chains, self.config, freeze)

    def preview(self, count: int) -> Tensor:
        """Some of the newest negative samples, (at most count, C, H, W) in [0, 1]."""
        return self.buffer.newest[:count].float() / 255

    def state_dict(self) -> dict[str, Tensor]:
        """The replay buffer."""
        return self.buffer.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the replay buffer over; raises ValueError where it is of another shape."""
        self.buffer.load_state_dict(state)


class ContrastiveDivergence(ImprovedCD):
    """The objective "cd": the same without the KL loss."""

    def __init__(self, config: CDConfig, shape: tuple[int, int, int], sampler: Sampler, transition: Transition) -> None:
        super().__init__(ICDConfig(**dataclasses.asdict(config), kl_loss=False), shape, sampler, transition)


def improved_cd(
    network: EnergyNetwork,
    positives: Tensor,
    label: Tensor | None,
    buffer: ReplayBuffer,
    sampler: Sampler,
    transition: Transition,
    config: ICDConfig,
    freeze: Freeze = frozen,
) -> Iterator[LossTerm]:
    """Algorithm 1 for one batch of data (B, C, H, W) in [0, 1], with labels (B, L) where the network takes them.

    Yields L_KL and L_CD term by term, so that one graph can be freed before the next is built: the caller sums the
    terms' parameter gradients. At the end the negative samples are added to the buffer.
    """
    fixed = freeze(network)  # Omega(theta)
    x = transition(chain_starts(positives, buffer, sampler.generator, config))
    past = past_samples(buffer, sampler.generator, transition, config)
    with_graph = (config.steps if config.kl_steps == "all" else 1) if config.kl_loss else 0
    x = run(sampler, Conditioned(fixed, label), x, config.steps - with_graph)

    negatives = []
    for rows, share in kl_rows(len(x), config) if with_graph else [(slice(0, len(x)), 0.0)]:
        here = None if label is None else label[rows]
        if not share:  # these samples take no part in the KL loss
            negatives.append(run(sampler, Conditioned(fixed, here), x[rows], with_graph))
            continue
        sample = x[rows]
        for _ in range(with_graph):
            sample = sampler.step(Conditioned(network, here), sample, create_graph=True)
        negatives.append(sample.detach())
        yield kl_loss(Conditioned(fixed, here), sample, past, share, config)

    del fixed  # memory for the graphs to come
    x = torch.cat(negatives)
    energy = Conditioned(network, label)
    yield contrastive_loss(energy, positives, +1, "data", config)
    term = contrastive_loss(energy, x, -1, "samples", config)
    yield term._replace(logs=term.logs | {"buffer": torch.tensor(len(buffer))})
    buffer.add(x, sampler.generator)  # last: a caller that stops at a bad loss keeps a good buffer


def contrastive_loss(energy: Conditioned, x: Tensor, sign: int, name: str, config: ICDConfig) -> LossTerm:
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


def chain_starts(like: Tensor, buffer: ReplayBuffer, generator: torch.Generator, config: ICDConfig) -> Tensor:
    """Where the chains begin, (B, C, H, W): in the buffer, or with a small probability (or always) in noise."""
    noise = uniform_noise(len(like), like.shape[1:], generator)
    if config.start == "noise" or not len(buffer):
        return noise
    fresh = torch.rand(len(like), generator=generator, device=like.device) < config.noise_probability
    return torch.where(fresh[:, None, None, None], noise, buffer.draw(len(like), generator))


def past_samples(
    buffer: ReplayBuffer, generator: torch.Generator, transition: Transition, config: ICDConfig
) -> Tensor | None:
    """The set X of Algorithm 1 (B in Equation 8): past samples, augmented as they are drawn; None while too few."""
    if not (config.kl_loss and config.kl_entropy) or len(buffer) < min(config.entropy_after, config.buffer_size):
        return None
    return transition(buffer.draw(config.entropy_neighbors, generator)) if len(buffer) else None


def kl_rows(batch: int, config: ICDConfig) -> Iterator[tuple[slice, float]]:
    """Slices of a batch with their share in the KL loss: its samples chunk by chunk, then the rest with share 0."""
    count = min(batch, config.kl_samples)
    for low in range(0, count, config.kl_chunk):
        high = min(low + config.kl_chunk, count)
        yield slice(low, high), (high - low) / count
    if count < batch:
        yield slice(count, batch), 0.0
