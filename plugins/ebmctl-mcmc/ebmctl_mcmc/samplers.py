"""Samplers that leave p(x) proportional to exp(-E(x) / T) as it is, whatever their step size.

Both follow Hamiltonian dynamics of H(x, v) = E(x) / T + |v|^2 / 2 from fresh velocities and accept the end with
probability min(1, exp(H_start - H_end)) (Neal 2011). MALA (Roberts and Tweedie 1996) is the case of one leapfrog step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebmctl.core.energy import Energy
from ebmctl.core.hmc import hamiltonian, metropolis, trajectory
from ebmctl_mcmc.config import HmcConfig, MalaConfig


class Hmc:
    """Hamiltonian Monte Carlo; a step is one trajectory with its acceptance.

    Bounded images are reflected at the walls of [0, 1]: free motion in a box keeps volume and can be reversed, so that
    the result is exact there too. Differentiable: with `create_graph` an accepted image depends on the energy's
    parameters through the gradients of its trajectory, as the KL loss needs; the acceptance itself carries none.
    """

    differentiable = True

    def __init__(self, config: HmcConfig, generator: torch.Generator) -> None:
        self.config, self.generator = config, generator
        self._forget()

    def _forget(self) -> None:
        self.accepted, self.proposed = torch.zeros((), dtype=torch.long, device=self.generator.device), 0

    @property
    def acceptance(self) -> float | None:
        """The share of accepted steps since the last `report`, in [0, 1]; None before the first one."""
        return float(self._rate()) if self.proposed else None

    def report(self) -> dict[str, Tensor]:
        """The acceptance of the steps since this was last asked; nothing where there were none.

        A tensor on the device: a run that asks in every step would wait for a number.
        """
        found = {"acceptance": self._rate()} if self.proposed else {}
        self._forget()
        return found

    def _rate(self) -> Tensor:
        exact = torch.float32 if self.accepted.device.type == "mps" else torch.float64  # which MPS does not have
        return self.accepted.to(exact) / self.proposed

    def step(self, energy: Energy, x: Tensor, *, create_graph: bool = False) -> Tensor:
        """One step from images (B, C, H, W) to images of that shape; each is accepted or not by itself."""
        if self.config.bounded:
            x = x.clamp(0, 1)
        velocity = torch.randn(x.shape, generator=self.generator, device=x.device, dtype=x.dtype)
        end, end_velocity = self.trajectory(energy, x, velocity, create_graph)
        with torch.no_grad():
            temperature = self.config.temperature
            change = hamiltonian(energy, end, end_velocity, temperature) - hamiltonian(energy, x, velocity, temperature)
        accepted = metropolis(change, self.generator)
        self.accepted = self.accepted + accepted.sum()
        self.proposed += len(accepted)
        return torch.where(accepted[:, None, None, None], end, x)

    def trajectory(
        self, energy: Energy, x: Tensor, velocity: Tensor, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Leapfrog steps from images and velocities (B, C, H, W); backwards it leads to where it came from."""
        return trajectory(
            energy,
            x,
            velocity,
            step_size=self.config.step_size,
            leapfrog=self.config.leapfrog,
            temperature=self.config.temperature,
            bounded=self.config.bounded,
            create_graph=create_graph,
        )


class Mala(Hmc):
    """x' = x - step_size * grad E(x) + sqrt(2 step_size T) * N(0, 1), accepted by Metropolis and Hastings' rule.

    That is one leapfrog step of the time sqrt(2 step_size T), in units where velocities are
    N(0, 1).
    """

    def __init__(self, config: MalaConfig, generator: torch.Generator) -> None:
        time = (2 * config.step_size * config.temperature) ** 0.5
        super().__init__(HmcConfig(time, 1, config.temperature, config.bounded), generator)
