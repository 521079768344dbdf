"""What ships with ebmctl, registered through the hooks that any package uses. Imports nothing heavy."""

from __future__ import annotations

from ebmctl.data.names import DATASETS
from ebmctl.hookspecs import Register, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """The residual network."""
    register(
        "residual",
        "ebmctl.core.nets.residual:ResidualEnergy",
        "residual energy network of several scales (Tables 5 and 6)",
        options="ebmctl.core.config:ResidualConfig",
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """The paper's objective."""
    register(
        "icd",
        "ebmctl.core.cd:ImprovedCD",
        "improved contrastive divergence (Algorithm 1)",
        options="ebmctl.core.config:CDConfig",
    )


@hookimpl
def register_samplers(register: Register) -> None:
    """Langevin dynamics."""
    register(
        "langevin",
        "ebmctl.core.langevin:Langevin",
        "Langevin dynamics with clamping",
        options="ebmctl.core.config:LangevinConfig",
    )


@hookimpl
def register_augmentations(register: Register) -> None:
    """The paper's transitions."""
    register(
        "standard",
        "ebmctl.core.augment:transitions",
        "crop and resize, flip, colour distortion, grey, blur",
        options="ebmctl.core.config:AugmentConfig",
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """The known datasets."""
    for name, (factory, about) in DATASETS.items():
        register(name, factory, about)
