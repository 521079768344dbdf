"""JEM: one network that is an energy-based model and a classifier (Grathwohl et al. 2019)."""

from __future__ import annotations

from ebmctl import Register, RegisterRecipes, hookimpl


@hookimpl
def register_architectures(register: Register) -> None:
    """The classifier whose logits are the energies."""
    register(
        "jem",
        "ebmctl_jem.net:ResidualClassifier",
        "residual classifier; E(x) is minus the log-sum-exp of its logits",
        options="ebmctl_jem.config:ClassifierConfig",
    )


@hookimpl
def register_objectives(register: Register) -> None:
    """The joint objective."""
    register(
        "jem",
        "ebmctl_jem.objective:JointEnergy",
        "contrastive divergence for p(x) and cross entropy for p(y|x)",
        options="ebmctl_jem.config:JemConfig",
    )


@hookimpl
def register_recipes(register: RegisterRecipes) -> None:
    """CIFAR-10 close to the publication, and digits in minutes."""
    register("ebmctl_jem:recipes")
