"""The baselines that the ICD paper compares with: IGEBM (Du and Mordatch 2019), Short-Run EBM (Nijkamp et al. 2019)."""

from __future__ import annotations

from ebmctl import Register, RegisterRecipes, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """A network for each."""
    register(
        "igebm",
        "ebmctl_igebm.nets:Igebm",
        "residual network with spectral norm (Du and Mordatch 2019)",
        options="ebmctl_igebm.config:IgebmConfig",
    )
    register(
        "short-run",
        "ebmctl_igebm.nets:ShortRun",
        "plain convolutions (Nijkamp et al. 2019)",
        options="ebmctl_igebm.config:ShortRunConfig",
    )


@hookimpl
def register_samplers(register: Register) -> None:
    """IGEBM's sampler; the Short-Run EBM has ebmctl's own."""
    register(
        "clipped-langevin",
        "ebmctl_igebm.sampler:ClippedLangevin",
        "Langevin dynamics whose gradients are clipped (Du and Mordatch 2019)",
        options="ebmctl_igebm.config:ClippedConfig",
    )


@hookimpl
def register_recipes(register: RegisterRecipes) -> None:
    """Both on CIFAR-10 as published, and on digits in minutes."""
    register("ebmctl_igebm:recipes")
