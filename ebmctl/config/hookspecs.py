"""The hooks through which packages extend ebmctl; what ships is registered through them too.

A package names its module under the entry-point group `ebmctl`, and that module implements the hooks it needs:

    from ebmctl import hookimpl

    @hookimpl
    def register_samplers(register):
        register("mala", "ebmctl_mcmc.samplers:Mala", "Metropolis-adjusted", options="ebmctl_mcmc.config:MalaConfig")

The module is imported whenever a name is looked up, so it imports nothing heavy: import strings are followed only when
their entry is used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pluggy

hookspec = pluggy.HookspecMarker("ebmctl")
hookimpl = pluggy.HookimplMarker("ebmctl")


class Register(Protocol):
    """Registers a factory, or its import string `module:name`, under a name with a one-line description.

    `options` is the frozen dataclass of the factory's settings, or its import string. A factory and its options raise
    ValueError for invalid settings. For a dataset, `shape` is its own (size, channels), `recipe` its default where no
    recipe has its name, and `offline` says that it needs no download and that the zoo has a classifier of it, which is
    then used for quality metrics.
    """

    def __call__(
        self,
        name: str,
        factory: str | Callable[..., Any],
        about: str,
        *,
        options: str | type | None = None,
        shape: tuple[int, int] | None = None,
        recipe: str | None = None,
        offline: bool = False,
    ) -> None:
        """Register one entry."""


class RegisterRecipes(Protocol):
    """Registers every `*.toml` of a folder `package:folder` as a recipe, under the file's name."""

    def __call__(self, folder: str) -> None:
        """Register the recipes of one folder; each has its one-line description under the key `about`."""


@hookspec
def register_architectures(register: Register) -> None:
    """Energy networks: `factory(options, channels, labels)` -> a torch module that is an `EnergyNetwork`."""


@hookspec
def register_objectives(register: Register) -> None:
    """Training objectives: `factory(options, shape, sampler, augmentation)` -> an `ebmctl.Objective`."""


@hookspec
def register_samplers(register: Register) -> None:
    """Samplers: `factory(options, generator)` -> a `Sampler`."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Augmentations of the chains: `factory(options, generator)` -> a function from images to images."""


@hookspec
def register_datasets(register: Register) -> None:
    """Datasets: `factory(request)` -> an `ImageDataset`."""


@hookspec
def register_recipes(register: RegisterRecipes) -> None:
    """Recipes: TOML files in a folder of the package."""
