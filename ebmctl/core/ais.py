"""Annealed importance sampling, forward and reverse: an interval on log Z of exp(-E(x)) (Neal 2001; Grosse 2015).

Chains go from a start whose log Z is known to the energy, through exp(-(1 - beta) E_start - beta E). Forward,
their weights estimate Z without bias, so that log Z tends to be underestimated; chains that go back from samples of the
energy estimate 1/Z without bias, so that log Z tends to be overestimated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ebmctl.core.energy import Energy
from ebmctl.core.hmc import hmc_step

PILOT_LIMIT = 5000  # levels that a pilot may need
PILOT_DEVIATION = 1.0  # standard deviation of the log-weights from one of a pilot's levels to the next
PILOT_MOVES = 4
ACCEPTANCE = (0.65, 0.85)  # between which a step size is left as it is
REPLICATES = 500


class Start(Protocol):
    """Where chains start: a density exp(-energy) that can be drawn from, with a known log Z."""

    bounded: bool

    def energy(self, x: Tensor) -> Tensor:
        """Energies (B,)."""

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Samples (count, C, H, W)."""

    def log_z(self, shape: tuple[int, ...]) -> float:
        """The logarithm of the integral of exp(-energy)."""


class Box:
    """Uniform on [0, 1], as an image model is: p(x) is proportional to exp(-E(x)) there and 0 elsewhere."""

    bounded = True

    def energy(self, x: Tensor) -> Tensor:
        """Zero, (B,)."""
        return x.new_zeros(len(x))

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Uniform images (count, C, H, W)."""
        return torch.rand((count, *shape), generator=generator, device=generator.device)

    def log_z(self, shape: tuple[int, ...]) -> float:  # noqa: ARG002  # the Gaussian needs it
        """Zero: the box has a volume of 1."""
        return 0.0


@dataclass(frozen=True)
class Gaussian:
    """Normal in every coordinate, for energies on all numbers."""

    mean: float = 0.0
    std: float = 1.0
    bounded = False

    def energy(self, x: Tensor) -> Tensor:
        """|x - mean|^2 / (2 std^2), (B,)."""
        return ((x - self.mean) / self.std).flatten(1).square().sum(1) / 2

    def draw(self, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Normal images (count, C, H, W)."""
        return self.mean + self.std * torch.randn((count, *shape), generator=generator, device=generator.device)

    def log_z(self, shape: tuple[int, ...]) -> float:
        """D log(std sqrt(2 pi))."""
        return math.prod(shape) * (math.log(self.std) + math.log(2 * math.pi) / 2)


@dataclass(frozen=True)
class AisConfig:
    """`chains` chains over `levels` values of beta, with `moves` HMC trajectories of `leapfrog` steps at each.

    `settle` are the trajectories that bring the reverse chains, where they start at the forward chains' ends, closer
    to the energy's own distribution.
    """

    chains: int = 64
    levels: int = 500
    leapfrog: int = 5
    moves: int = 1
    settle: int = 20

    def __post_init__(self) -> None:
        if self.chains < 2 or min(self.levels, self.leapfrog, self.moves) < 1 or self.settle < 0:
            raise ValueError("chains must be at least 2; levels, leapfrog and moves at least 1; settle at least 0")


@dataclass(frozen=True)
class Schedule:
    """The values of beta, from 0 to 1, and the step size of the trajectories at each."""

    betas: Sequence[float]
    step_sizes: Sequence[float]


@dataclass(frozen=True)
class LogZ:
    """log Z with its interval: between the forward and the reverse estimate, each with its 95 % bootstrap interval.

    `effective` is the effective sample size of the forward chains as a share, in (0, 1]; `acceptance` is the share of
    trajectories that were accepted. If either is near 0, there were too few levels: do not trust the interval.
    """

    value: float
    low: float
    high: float
    forward: float
    reverse: float
    effective: float
    acceptance: float


Progress = Callable[[int, int], None]


class Annealing:
    """The chains between a start and an energy, both in nats, over images of a shape (C, H, W)."""

    def __init__(
        self,
        energy: Energy,
        start: Start,
        shape: tuple[int, ...],
        config: AisConfig,
        generator: torch.Generator,
        progress: Progress | None = None,
    ) -> None:
        self.energy, self.start, self.shape, self.config = energy, start, shape, config
        self.generator, self.progress = generator, progress
        self.accepted: list[float] = []
        self.schedule = self._plan()
        self.accepted.clear()
        self.done = 0

    def between(self, beta: float) -> Energy:
        """The energy at a beta."""
        return lambda x: (1 - beta) * self.start.energy(x) + beta * self.energy(x)

    @torch.no_grad()
    def difference(self, x: Tensor) -> Tensor:
        """E - E_start, (B,) in double precision; raises ValueError where it is not finite."""
        found = self.energy(x).double() - self.start.energy(x).double()
        if not found.isfinite().all():
            raise ValueError("the energy of a chain is NaN or infinite")
        return found

    def forward(self) -> tuple[Tensor, Tensor]:
        """Ends (N, C, H, W) and log-weights (N,), whose exponentials are Z / Z_start on average."""
        x = self.start.draw(self.config.chains, self.shape, self.generator)
        weights = x.new_zeros(len(x), dtype=torch.float64)
        betas = self.schedule.betas
        for level in range(1, len(betas)):
            weights -= (betas[level] - betas[level - 1]) * self.difference(x)
            x = self._move(x, level, self.config.moves)
        return x, weights

    def reverse(self, x: Tensor) -> Tensor:
        """Log-weights (N,) of chains from samples x of the energy; exp(-weight) is Z_start / Z on average."""
        weights = x.new_zeros(len(x), dtype=torch.float64)
        betas = self.schedule.betas
        for level in range(len(betas) - 1, 0, -1):
            weights -= (betas[level] - betas[level - 1]) * self.difference(x)
            if level > 1:
                x = self._move(x, level - 1, self.config.moves)
        return weights

    def resampled(self, x: Tensor, weights: Tensor) -> Tensor:
        """Starts for `reverse` from the forward chains: drawn by their weights, then moved by `settle` trajectories."""
        share = (weights - weights.max()).exp()
        rows = torch.multinomial(share, len(x), replacement=True, generator=self.generator)
        return self._move(x[rows], len(self.schedule.betas) - 1, self.config.settle)

    def _move(self, x: Tensor, level: int, moves: int) -> Tensor:
        energy, size = self.between(self.schedule.betas[level]), self.schedule.step_sizes[level]
        for _ in range(moves):
            x, rate = self._step(energy, x, size)
            self.accepted.append(rate)
        if self.progress:
            self.done += 1
            self.progress(self.done, 2 * len(self.schedule.betas) - 2)
        return x

    def _step(self, energy: Energy, x: Tensor, size: float) -> tuple[Tensor, float]:
        """A trajectory and its acceptance rate; step sizes vary, so that trajectories are not all one period long."""
        varied = size * (0.5 + float(torch.rand((), generator=self.generator, device=self.generator.device)) / 2)
        leapfrog, bounded = self.config.leapfrog, self.start.bounded
        x, accepted = hmc_step(energy, x, self.generator, step_size=varied, leapfrog=leapfrog, bounded=bounded)
        return x, float(accepted.double().mean())

    def _plan(self) -> Schedule:
        """Place the requested number of levels where a pilot run of a few chains needs them.

        The pilot's chains are discarded: a schedule that is adapted to a chain would bias its weight.
        """
        knots = [(0.0, math.log(1.0))]
        for beta, size in self._pilot():
            knots.append((beta, math.log(size)))
            if len(knots) > PILOT_LIMIT:
                raise ValueError(
                    f"the energy is too steep: over {PILOT_LIMIT} levels are needed; raise the temperature"
                )
        knots[0] = (0.0, knots[1][1])
        betas, sizes = [], []
        for level in range(self.config.levels + 1):
            place = level * (len(knots) - 1) / self.config.levels
            index = min(int(place), len(knots) - 2)
            (low, small), (high, large) = knots[index : index + 2]
            part = place - index
            betas.append(low + part * (high - low))
            sizes.append(math.exp(small + part * (large - small)))
        return Schedule((*betas[:-1], 1.0), tuple(sizes))

    def _pilot(self) -> Iterator[tuple[float, float]]:
        x = self.start.draw(min(16, self.config.chains), self.shape, self.generator)
        beta, size = 0.0, 0.5
        while beta < 1:
            deviation = float(self.difference(x).std())
            beta = min(beta + PILOT_DEVIATION / max(deviation, 1e-12), 1.0)
            energy = self.between(beta)
            for _ in range(PILOT_MOVES):
                x, rate = self._step(energy, x, size)
                size = min(size * (0.7 if rate < ACCEPTANCE[0] else 1.25 if rate > ACCEPTANCE[1] else 1.0), 2.0)
            yield beta, size


def log_partition(
    energy: Energy,
    start: Start,
    shape: tuple[int, ...],
    config: AisConfig,
    generator: torch.Generator,
    *,
    samples: Tensor | None = None,
    progress: Progress | None = None,
) -> LogZ:
    """log Z of exp(-energy) over images of a shape (C, H, W), by chains from `start`.

    With `samples` (N, C, H, W), exact draws of the energy's distribution, its reverse estimate is an upper bound as
    the forward one is a lower one: either is passed by b nats with a probability under exp(-b). Without, reverse
    chains start at the forward chains' ends; what those never found is then missing from both.

    `progress(done, all)` is called after each level. Raises ValueError for an energy that is not finite, or too steep.
    """
    annealing = Annealing(energy, start, shape, config, generator, progress)
    ends, forward = annealing.forward()
    reverse = annealing.reverse(annealing.resampled(ends, forward) if samples is None else samples)
    base = start.log_z(shape)
    below = base + _log_means(forward, generator)
    above = base - _log_means(-reverse, generator)
    estimates = torch.cat([below[1:].quantile(LIMITS), above[1:].quantile(LIMITS), below[:1], above[:1]])
    share = (forward - forward.max()).exp()
    return LogZ(
        value=float(below[0] + above[0]) / 2,
        low=float(estimates.min()),
        high=float(estimates.max()),
        forward=float(below[0]),
        reverse=float(above[0]),
        effective=float(share.sum().square() / share.square().sum() / len(share)),
        acceptance=sum(annealing.accepted) / max(len(annealing.accepted), 1),
    )


LIMITS = torch.tensor([0.025, 0.975], dtype=torch.float64)


def _log_means(weights: Tensor, generator: torch.Generator) -> Tensor:
    """The logarithm of the mean of exp(weights), then that of each bootstrap replicate, (1 + REPLICATES,)."""
    rows = torch.randint(len(weights), (REPLICATES, len(weights)), generator=generator, device=weights.device)
    everything = torch.cat([weights[None], weights[rows]])
    return (torch.logsumexp(everything, 1) - math.log(len(weights))).cpu()
