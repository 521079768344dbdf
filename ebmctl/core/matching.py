"""Energy Matching (Balcerak et al., NeurIPS 2025, arXiv 2504.10612): an energy whose gradient carries noise to data."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ebmctl.core.config import FlowConfig, MatchingConfig
from ebmctl.core.energy import Conditioned, EnergyNetwork, energy_gradient, frozen
from ebmctl.core.flow import flow
from ebmctl.core.langevin import Sampler
from ebmctl.core.noise import gaussian_noise
from ebmctl.core.objective import Freeze, LossTerm, Objective
from ebmctl.core.sampling import Augmentation

NOISE_VARIANCE = 0.25  # of `gaussian_noise`
MAX_TEMPERATURE = 2.0


class EnergyMatching(Objective):
    """The objective "energy-matching": transport from noise, with contrastive divergence where it has a weight."""

    def __init__(
        self, config: MatchingConfig, _shape: tuple[int, int, int], sampler: Sampler, _augmentation: Augmentation
    ) -> None:
        if config.pairing == "optimal" and importlib.util.find_spec("scipy") is None:
            raise ValueError(
                "optimal pairing needs scipy: pip install 'ebmctl[matching]', or set objective.pairing=\"independent\""
            )
        self.config, self.generator = config, sampler.generator
        self.newest: Tensor | None = None

    def losses(
        self, network: EnergyNetwork, positives: Tensor, label: Tensor | None, freeze: Freeze = frozen
    ) -> Iterator[LossTerm]:
        """The loss terms for a batch of data (B, C, H, W) in [0, 1] with labels (B, L), or None."""
        energy = Conditioned(network, label)
        noise = gaussian_noise(len(positives), positives.shape[1:], self.generator)
        if self.config.pairing == "optimal":
            noise = noise[optimal_pairing(noise, positives, label)]
        time = torch.rand(len(positives), generator=self.generator, device=positives.device)
        if self.config.matching_weight:
            yield matching_loss(energy, noise, positives, time, self.config.matching_weight)
        if self.config.label_weight and label is not None:
            time = 1 - self.config.label_span * (1 - time)
            x = torch.lerp(noise, positives, time[:, None, None, None])
            yield label_loss(network, x, time, label, self.config)
        if self.config.cd_weight:
            negatives = self.negatives(Conditioned(freeze(network), label), positives)
            self.newest = negatives.clamp(0, 1)
            yield contrast(energy, positives, negatives, self.config)

    def negatives(self, fixed: Conditioned, positives: Tensor) -> Tensor:
        """Chains from data at time 1 and from noise at time 0, (B, C, H, W)."""
        config, count = self.config, round(self.config.from_data * len(positives))
        path = FlowConfig(config.steps, config.steps * config.step_time, "euler", config.temperature, config.cutoff)
        noise = gaussian_noise(len(positives) - count, positives.shape[1:], self.generator)
        ends = []
        for x, start, rows in ((positives[:count], 1.0, slice(count)), (noise, 0.0, slice(count, None))):
            for moved in flow(fixed[rows], x, path, self.generator, start) if len(x) else ():
                x = moved
            ends.append(x)
        return torch.cat(ends)

    @property
    def chain_steps(self) -> int:
        """The steps of the chains; 0 without contrastive divergence."""
        return self.config.steps if self.config.cd_weight else 0

    def with_chain_steps(self, steps: int) -> Objective:
        """See `Objective.with_chain_steps`."""
        made = copy.copy(self)
        made.config = dataclasses.replace(self.config, steps=steps)
        return made

    def preview(self, count: int) -> Tensor | None:
        """Some of the newest negative samples, (at most count, C, H, W) in [0, 1]; None without chains."""
        return None if self.newest is None else self.newest[:count]


def optimal_pairing(noise: Tensor, data: Tensor, label: Tensor | None) -> Tensor:
    """Indices (B,) that pair noise[indices] with data, (B, C, H, W) each, at the least sum of squared distances.

    With labels (B, L) the noise of a label stays with it, so that every label has its own transport.
    """
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(data.flatten(1), noise.flatten(1)).square().cpu().numpy()  # (B, B)
    pairing = np.empty(len(data), dtype=np.int64)
    indices = np.arange(len(data))
    for group in [None] if label is None else torch.unique(label, dim=0):
        rows = indices if group is None else np.flatnonzero((label == group).all(1).cpu().numpy())
        _, columns = linear_sum_assignment(cost[np.ix_(rows, rows)])
        pairing[rows] = rows[columns]
    return torch.from_numpy(pairing).to(data.device)


def matching_loss(energy: Conditioned, noise: Tensor, data: Tensor, time: Tensor, weight: float = 1.0) -> LossTerm:
    """The weighted mean square of -grad E(x_t) - (data - noise), x_t between noise (time 0) and data (time 1).

    noise and data are (B, C, H, W), time is (B,). The gradient to the parameters goes through grad E.
    """
    x = torch.lerp(noise, data, time[:, None, None, None])
    gradient = energy_gradient(energy, x, create_graph=True)
    loss = (gradient + (data - noise)).square().mean()
    return LossTerm("matching", weight * loss, {"loss_matching": loss.detach()})


def label_loss(network: EnergyNetwork, x: Tensor, time: Tensor, label: Tensor, config: MatchingConfig) -> LossTerm:
    """The weighted -log p(c given x) of images (B, C, H, W) at a time (B,) of the way from noise, labels (B, L).

    The mean is over the images with a label: those whose label is dropped, all 0, weigh nothing (not left out: shapes
    that depend on values make the host wait for the device). It is 0 where no image has one.

    p(c given x) is proportional to exp(-E(x given c) / T) at the temperature of `path_temperature`. An addition to the
    publication, after JEM (Grathwohl et al. 2019): a label that shows in few pixels, such as a smile, hardly counts in
    the mean square over all of them.
    """
    energies = network.label_energies(x, label.shape[1])
    target = label.argmax(1)
    logits = -energies / path_temperature(time, config.label_temperature)[:, None]
    known = label.any(1)
    share = known / known.sum().clamp_min(1)  # (B,), 1 in all
    loss = config.label_weight * (F.cross_entropy(logits, target, reduction="none") * share).sum()
    right = ((energies.argmin(1) == target) * share).sum()
    return LossTerm("label", loss, {"loss_label": loss.detach(), "label_accuracy": right.detach()})


def path_temperature(time: Tensor, least: float) -> Tensor:
    """The temperature (B,) at which energies are log-densities at times (B,) of the way: v (1 - t) / t, v = 1/4.

    On the way x_t = (1 - t) n + t x with noise n of variance v, the velocity given a label is that without one plus
    v (1 - t) / t times the gradient of log p(c given x_t): the matched energies of two labels differ by as much. It
    falls to 0 where the data are; it is held at `least` there, so that labels still tell apart what has been drawn,
    and at `MAX_TEMPERATURE` where all is noise.
    """
    return (NOISE_VARIANCE * (1 - time) / time.clamp_min(1e-6)).clamp(least, max(least, MAX_TEMPERATURE))


def contrast(energy: Conditioned, data: Tensor, samples: Tensor, config: MatchingConfig) -> LossTerm:
    """Contrastive divergence: the weighted mean energy of data less that of samples, (B, C, H, W) each, clamped."""
    data_terms, sample_terms = energy.terms(data), energy.terms(samples)
    loss = config.cd_weight * (data_terms.sum(1).mean() - sample_terms.sum(1).mean())
    if config.cd_clamp:
        loss = loss.clamp_min(-config.cd_clamp)
    logs = {
        "energy_data_scales": data_terms.detach().mean(0),
        "energy_data": data_terms.detach().sum(1).mean(),
        "energy_samples_scales": sample_terms.detach().mean(0),
        "energy_samples": sample_terms.detach().sum(1).mean(),
        "loss_cd": loss.detach(),
    }
    return LossTerm("cd", loss, logs)
