"""The five hooks through which packages extend ebmctl; what ships is registered through them too.

A package names its module under the entry-point group `ebmctl`, and that module implements the hooks it needs:

    from ebmctl import hookimpl

    @hookimpl
    def register_samplers(register):
        register("mala", "ebmctl_mcmc:Mala", "Metropolis-adjusted Langevin", options="ebmctl_mcmc:MalaConfig")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pluggy

hookspec = pluggy.HookspecMarker("ebmctl")
hookimpl = pluggy.HookimplMarker("ebmctl")


class Register(Protocol):
    """Registers a factory, or its import string `module:name`, under a name with a one-line description.

    `options` is the frozen dataclass of the factory's settings, or its import string.
    """

    def __call__(
        self, name: str, factory: str | Callable[..., Any], about: str, *, options: str | type | None = None
    ) -> None:
        """Register one entry."""


@hookspec
def register_architectures(register: Register) -> None:
    """Energy networks: `factory(options, channels, labels)` -> a torch module that is an `EnergyNetwork`."""


@hookspec
def register_objectives(register: Register) -> None:
    """Training objectives: `factory(options, shape, sampler, transition)` -> an `Objective` (ebmctl.core.objective)."""


@hookspec
def register_samplers(register: Register) -> None:
    """Samplers: `factory(options, generator)` -> a `Sampler`."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Chain transitions: `factory(options, generator)` -> a function from images to images."""


@hookspec
def register_datasets(register: Register) -> None:
    """Datasets: `factory(request)` -> an `ImageDataset`."""
