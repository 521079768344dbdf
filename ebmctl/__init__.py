"""Energy-based models: train with improved contrastive divergence, sample, and use.

The names below are loaded when they are first used, so that importing ebmctl does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ebmctl.config import recipe, registry
    from ebmctl.config.hookspecs import Register, RegisterRecipes, hookimpl
    from ebmctl.core.compose import mixture, negate, product
    from ebmctl.core.energy import Energy, EnergyNetwork
    from ebmctl.core.langevin import Sampler
    from ebmctl.core.objective import LossTerm, Objective
    from ebmctl.models.model import Model, load, sample

_WHERE = {
    "Energy": "ebmctl.core.energy",
    "EnergyNetwork": "ebmctl.core.energy",
    "LossTerm": "ebmctl.core.objective",
    "Model": "ebmctl.models.model",
    "Objective": "ebmctl.core.objective",
    "Register": "ebmctl.config.hookspecs",
    "RegisterRecipes": "ebmctl.config.hookspecs",
    "Sampler": "ebmctl.core.langevin",
    "hookimpl": "ebmctl.config.hookspecs",
    "load": "ebmctl.models.model",
    "mixture": "ebmctl.core.compose",
    "negate": "ebmctl.core.compose",
    "product": "ebmctl.core.compose",
    "sample": "ebmctl.models.model",
}
_MODULES = ("recipe", "registry")  # of `ebmctl.config`, for plugins' tests
__all__ = [
    "Energy",
    "EnergyNetwork",
    "LossTerm",
    "Model",
    "Objective",
    "Register",
    "RegisterRecipes",
    "Sampler",
    "__version__",
    "hookimpl",
    "load",
    "mixture",
    "negate",
    "product",
    "recipe",
    "registry",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"ebmctl.config.{name}")
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ebmctl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
