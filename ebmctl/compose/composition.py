"""Concepts by name, and the energy of an expression of them (paper, section 3.4)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmctl.compose.expression import And, Concept, Expression, Not, Weighted, concepts
from ebmctl.core.compose import EnergiesWithGradients, conjunction, disjunction, negation
from ebmctl.core.energy import frozen
from ebmctl.errors import UsageError, unknown
from ebmctl.models.folder import unconditional_names
from ebmctl.models.model import Model, load
from ebmctl.models.zoo import ZooModel, zoo

YES, NO = "yes", "no"


@dataclass(frozen=True)
class Algebra:
    """How expressions become energies.

    With `shared` a concept stands for E(x given c) - E(x), what it adds to the energy of all images, and E(x) is
    counted once: exact where concepts are independent given that part. Without, for E(x given c) alone, as the
    paper adds them. `strength` is the weight of all concepts; OR is -T log sum exp(-E / T) at `or_temperature`; NOT is
    the negated energy times `not_weight`. Without a strength or temperature it is that of the first concept's recipe.
    docs/compose.md has the measurements behind the defaults.
    """

    shared: bool = True
    strength: float | None = None
    or_temperature: float | None = None
    not_weight: float = 1.0

    def __post_init__(self) -> None:
        given = (self.strength, self.or_temperature, self.not_weight)
        if not all(value is None or value > 0 for value in given):
            raise UsageError("strength, OR's temperature and NOT's weight must be above 0")


PLAIN = Algebra(shared=False, strength=1.0, or_temperature=1.0, not_weight=0.001)
"""The paper's form, with its authors' weight of NOT."""


class Vocabulary:
    """The concepts of a family by name, from the zoo and of the user's own, whose models are loaded to a device."""

    def __init__(
        self, family: str, entries: Mapping[str, ZooModel | Path], device: str | torch.device = "auto"
    ) -> None:
        self.family, self.entries, self.device = family, entries, device
        self.loaded: dict[str, Model] = {}

    def model(self, name: str) -> Model:
        """A concept's model; raises UsageError for an unknown one."""
        if name not in self.entries:
            raise UsageError(f"unknown concept '{name}'; {self.family} has {', '.join(sorted(self.entries))}")
        if name not in self.loaded:
            entry = self.entries[name]
            found = load(entry.name if isinstance(entry, ZooModel) else entry, self.device)
            if not found.config.labels:
                raise UsageError(f"the model of '{name}' is unconditional; train it with --label")
            self.loaded[name] = found
        return self.loaded[name]

    def label(self, concept: Concept) -> str:
        """The label of a concept's model that it stands for; raises UsageError that lists the values."""
        labels, entry = self.model(concept.name).config.labels, self.entries[concept.name]
        values = label_values(labels, entry.label if isinstance(entry, ZooModel) else None)
        if concept.value is None and YES not in values:
            raise UsageError(
                f"'{concept.name}' has several values; write {' or '.join(f'{concept.name}={v}' for v in values)}"
            )
        if (value := concept.value or YES) not in values:
            raise unknown(f"value of '{concept.name}'", value, values)
        return values[value]


def label_values(labels: Sequence[str], meant: str | None = None) -> dict[str, str]:
    """What may follow a concept's name and "=", with the label that it means.

    A binary attribute has the labels "not smiling" and "smiling", which are `no` and `yes`, or the other way round
    where "not smiling" is what is `meant` (female is CelebA's "not Male"); others have their values, as "cube" or
    "identity=cube".
    """
    if len(labels) == 2 and labels[0] == f"not {labels[1]}":
        return {YES: labels[0], NO: labels[1]} if meant == labels[0] else {YES: labels[1], NO: labels[0]}
    return {label.rpartition("=")[2]: label for label in labels}


def families() -> list[str]:
    """The families of the zoo's concepts."""
    return sorted({entry.family for entry in zoo().values() if entry.family})


def vocabulary(
    family: str | None, own: Mapping[str, Path], names: Sequence[str], device: str | torch.device = "auto"
) -> Vocabulary:
    """The concepts to choose from: those of a family, or of the one that has all names, with the user's own on top.

    Unpublished concepts are included only if their family is named.
    """
    known: dict[str, dict[str, ZooModel | Path]] = {name: {} for name in families()}
    for entry in zoo().values():
        if entry.family and entry.concept and (entry.published or family):
            known[entry.family][entry.concept] = entry
    if family is not None and family not in known and not own:
        raise unknown("family", family, known)
    missing = set(names) - set(own)
    fitting = [name for name, entries in known.items() if missing and missing <= set(entries)]
    chosen = family or next(iter(["faces"] if "faces" in fitting else fitting), None if own else "faces")
    return Vocabulary(chosen or "your own", {**known.get(chosen or "", {}), **own}, device)


def same_without_label(first: Model, second: Model) -> bool:
    """Whether two conditional energies are the same without a label, as when both extend one trained model."""
    mine, other = first.network.state_dict(), second.network.state_dict()
    return first.recipe.network == second.recipe.network and all(
        torch.equal(mine[name], other[name]) for name in unconditional_names(first.recipe.network, first.shape[0])
    )


class Composition:
    """The energy of an expression: images (B, C, H, W) in [0, 1] -> (B,)."""

    def __init__(self, expression: Expression, words: Vocabulary, algebra: Algebra) -> None:
        self.expression, self.algebra = expression, algebra
        self.models = {concept.name: words.model(concept.name) for concept in concepts(expression)}
        self.labels = {concept: words.label(concept) for concept in concepts(expression)}
        shapes = {name: model.shape for name, model in self.models.items()}
        if len(set(shapes.values())) > 1:
            sizes = ", ".join(f"{name} {' x '.join(map(str, shape))}" for name, shape in shapes.items())
            raise UsageError(f"concepts of different sizes can't be combined: {sizes}")
        own = self.first.recipe.compose
        self.strength = algebra.strength or own.strength
        self.or_temperature = algebra.or_temperature or own.or_temperature
        self.networks = {name: frozen(model.network) for name, model in self.models.items()}
        self.bases = {  # the first one whose energy without a label is the same
            name: next(other for other in self.models if same_without_label(self.models[other], model))
            for name, model in self.models.items()
        }

    def quicken(self, images: int, gradients: int, compile: str, say: Callable[[str], None]) -> None:
        """Take the form that is best for so many gradients of each of some images; see `Model.quick`."""
        self.models = {name: model.quick(images, gradients, compile, say) for name, model in self.models.items()}
        self.networks = {name: model.freeze(model.network) for name, model in self.models.items()}

    @property
    def plain(self) -> Composition:
        """The same without what wraps its networks."""
        made = copy.copy(self)
        made.networks = {name: network.innermost for name, network in self.networks.items()}
        return made

    @property
    def first(self) -> Model:
        """The model whose sampling recipe is used."""
        return next(iter(self.models.values()))

    def __call__(self, x: Tensor) -> Tensor:
        """The energy (B,)."""
        values, shared = self._concepts(x)
        energy = self.strength * self._value(self.expression, values)
        return energy if shared is None else energy + shared

    def _concepts(self, x: Tensor) -> tuple[dict[Concept, Tensor], Tensor | None]:
        """The energy of each concept, (B,), and the shared part (B,)."""
        values: dict[Concept, Tensor] = {}
        shared: list[Tensor] = []
        plain: dict[str, Tensor] = {}  # E(x) of the networks that others stand on
        for name, base in self.bases.items():
            mine = [concept for concept in self.labels if concept.name == name]
            one_hot = self._one_hot(mine, x.device)
            if (part := self.networks[name].label_part()) is not None:
                if base not in plain:
                    plain[base] = EnergiesWithGradients(self.networks[base], None)(x)[0]
                added, whole = EnergiesWithGradients(part, one_hot)(x), plain[base]
            else:  # in one pass with the label zero
                labels = torch.cat([one_hot, torch.zeros_like(one_hot[:1])]) if self.algebra.shared else one_hot
                energies = EnergiesWithGradients(self.networks[name], labels)(x)
                whole = energies[-1] if self.algebra.shared else torch.zeros_like(energies[-1])
                added = energies[: len(mine)] - whole
            values |= dict(zip(mine, added if self.algebra.shared else added + whole, strict=True))
            shared.append(whole)
        return values, torch.stack(shared).mean(0) if self.algebra.shared else None

    def _one_hot(self, mine: Sequence[Concept], device: torch.device) -> Tensor:
        """Labels (M, L) of concepts of one model."""
        names = self.models[mine[0].name].config.labels
        return torch.eye(len(names), device=device)[[names.index(self.labels[concept]) for concept in mine]]

    def _value(self, term: Expression, values: Mapping[Concept, Tensor]) -> Tensor:
        if isinstance(term, Concept):
            return values[term]
        if isinstance(term, Weighted):
            return term.weight * self._value(term.term, values)
        if isinstance(term, Not):
            return negation(self._value(term.term, values), self.algebra.not_weight)
        parts = torch.stack([self._value(part, values) for part in term.terms])
        return conjunction(parts) if isinstance(term, And) else disjunction(parts, self.or_temperature)

    def remarks(self) -> list[str]:
        """What a user should know: concepts whose own sampling recipe differs from the one that is used."""
        name, first = next(iter(self.models.items()))
        plan = first.recipe.sampling_plan()
        others = [other for other, model in self.models.items() if model.recipe.sampling_plan() != plan]
        return [f"sampling with the recipe of {name}, which differs from that of {', '.join(others)}"] if others else []

    def described(self) -> dict[str, Any]:
        """The models with their checksums, and the settings of the algebra."""
        return {
            "models": {name: model.sha256() for name, model in self.models.items()},
            "algebra": asdict(self.algebra) | {"strength": self.strength, "or_temperature": self.or_temperature},
        }


def replaced(algebra: Algebra, given: Mapping[str, float | None]) -> Algebra:
    """The algebra with what is given and not None."""
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(algebra, **values)
