"""MALA and Hamiltonian Monte Carlo for ebmctl."""

from __future__ import annotations

from ebmctl import Register, hookimpl


@hookimpl
def register_samplers(register: Register) -> None:
    """The two samplers."""
    register(
        "mala",
        "ebmctl_mcmc.samplers:Mala",
        "Metropolis-adjusted Langevin dynamics, exact at any step size",
        options="ebmctl_mcmc.config:MalaConfig",
    )
    register(
        "hmc",
        "ebmctl_mcmc.samplers:Hmc",
        "Hamiltonian Monte Carlo, exact at any step size",
        options="ebmctl_mcmc.config:HmcConfig",
    )
