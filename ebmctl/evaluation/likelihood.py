"""The likelihood of images: log Z by annealed importance sampling, and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from ebmctl.core.ais import AisConfig, Box, LogZ, Progress, log_partition
from ebmctl.core.energy import Conditioned, Energy
from ebmctl.core.noise import seeded
from ebmctl.data.transform import to_float
from ebmctl.errors import EbmctlError, UsageError
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.results import Metric
from ebmctl.models.memory import check_fits, free_bytes, in_rows
from ebmctl.models.model import Model

LEVELS = 256  # of a pixel
BATCH = 256  # of the images that `bits` is given, at most
CHAIN_TENSORS = 8  # of the size of all chains, during a trajectory


@dataclass(frozen=True)
class LikelihoodSettings:
    """p(x) is proportional to exp(-E(x) / temperature) on [0, 1]; the chains are those of `ais`."""

    temperature: float = 1.0
    label: str | None = None
    seed: int = 0
    ais: AisConfig = field(default_factory=AisConfig)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"the temperature must be above 0, not {self.temperature}")


class Likelihood:
    """A model's log Z, found once, and with it the bits per dimension of any images."""

    def __init__(self, model: Model, settings: LikelihoodSettings, progress: Progress | None = None) -> None:
        self.model, self.settings = model, settings
        # the weights of chains are double, which Apple's GPUs do not have
        self.device = torch.device("cpu") if model.device.type == "mps" else model.device
        chains = settings.ais.chains
        size = CHAIN_TENSORS * 4 * chains * math.prod(model.shape)
        check_fits(f"--chains {chains}: so many chains", size, free_bytes(self.device), "give fewer --chains")
        self.energy = self._energy()
        generator = seeded(settings.seed, self.device)
        try:
            self.log_z = log_partition(self.energy, Box(), model.shape, settings.ais, generator, progress=progress)
        except ValueError as error:
            raise EbmctlError(f"log Z at the temperature {settings.temperature:g}: {error}") from error

    def described(self) -> Metric:
        """log Z, in nats, with all that it depends on."""
        log_z = self.log_z
        return Metric(
            log_z.value,
            low=log_z.low,
            high=log_z.high,
            forward=log_z.forward,
            reverse=log_z.reverse,
            effective=log_z.effective,
            acceptance=log_z.acceptance,
            temperature=self.settings.temperature,
            more={
                **asdict(self.settings.ais),
                "seed": self.settings.seed,
                "reverse_starts": "ends of the forward chains",
            },
        )

    def bits(self, batches: Iterable[Tensor]) -> Metric:
        """Bits per dimension of uint8 images (B, C, H, W), dequantised by uniform noise; no interval for one."""
        generator = torch.Generator().manual_seed(self.settings.seed)
        dequantised = (to_float(pixels, generator) for pixels in batches)
        with torch.no_grad():
            parts = [self.energy(x.to(self.device)).cpu().double() for x in dequantised]
        energies = torch.cat(parts)
        found = bits_per_dimension(energies, self.log_z, math.prod(self.model.shape))
        low, high = (found.low, found.high) if len(energies) > 1 else (None, None)
        return Metric(found.value, low=low, high=high, n=len(energies), temperature=self.settings.temperature)

    def _energy(self) -> Energy:
        temperature, most = self.settings.temperature, max(self.settings.ais.chains, BATCH)
        fixed = self.model.fixed(self.settings.label)  # a copy
        label = None if fixed.label is None else fixed.label.to(self.device)
        energy = in_rows(Conditioned(fixed.network.to(self.device), label), most, self.model.shape, self.device)
        return lambda x: energy(x) / temperature


def bits_per_dimension(energies: Tensor, log_z: LogZ, size: int) -> Interval:
    """-log2 of the probability of 8-bit images of `size` values, each: their energies (N,) are in nats, on [0, 1].

    The interval is that of log Z, widened by the images' own: 1.96 standard errors of their mean energy. For images
    dequantised by uniform noise it is an upper bound on the discrete model's bits (Theis et al. 2016).
    """
    error = float(energies.std() / len(energies) ** 0.5) if len(energies) > 1 else math.inf

    def bits(nats: float) -> float:
        return nats / (size * math.log(2)) + math.log2(LEVELS)

    mean = float(energies.mean())
    return Interval(
        bits(mean + log_z.value),
        low=bits(mean - 1.96 * error + log_z.low),
        high=bits(mean + 1.96 * error + log_z.high),
    )
