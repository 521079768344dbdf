"""Energy-based models: train by improved contrastive divergence, sample, and use.

The names below are loaded when they are first used, so that importing ebmctl does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ebmctl.core.compose import mixture, negate, product
    from ebmctl.core.energy import Energy, EnergyNetwork
    from ebmctl.core.langevin import Sampler
    from ebmctl.core.objective import LossTerm, Objective
    from ebmctl.config.hookspecs import hookimpl
    from ebmctl.models.model import Model, load, sample

_WHERE = {
    "Energy": "ebmctl.core.energy",
    "EnergyNetwork": "ebmctl.core.energy",
    "LossTerm": "ebmctl.core.objective",
    "Model": "ebmctl.models.model",
    "Objective": "ebmctl.core.objective",
    "Sampler": "ebmctl.core.langevin",
    "hookimpl": "ebmctl.config.hookspecs",
    "load": "ebmctl.models.model",
    "mixture": "ebmctl.core.compose",
    "negate": "ebmctl.core.compose",
    "product": "ebmctl.core.compose",
    "sample": "ebmctl.models.model",
}
__all__ = [
    "Energy",
    "EnergyNetwork",
    "LossTerm",
    "Model",
    "Objective",
    "Sampler",
    "__version__",
    "hookimpl",
    "load",
    "mixture",
    "negate",
    "product",
    "sample",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'ebmctl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
