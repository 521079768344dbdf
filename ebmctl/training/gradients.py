"""From an objective's loss terms to the gradient of the parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebmctl.core.objective import LossTerm
from ebmctl.errors import DivergedError

NOT_FINITE = "the energies are NaN or infinite"


class Summed(NamedTuple):
    """Each group's gradient, the terms' logs, and the loss of each term."""

    gradients: dict[str, list[Tensor]]
    logs: dict[str, Tensor]
    losses: list[Tensor]


def accumulate(terms: Iterable[LossTerm], parameters: list[nn.Parameter]) -> Summed:
    """Sum up the gradients of terms by group; logs of one name are summed too. Nothing waits for the device."""
    gradients: dict[str, list[Tensor]] = {}
    logs: dict[str, Tensor] = {}
    losses = []
    for term in terms:
        parts = torch.autograd.grad(term.loss, parameters, allow_unused=True, materialize_grads=True)
        if term.group in gradients:
            torch._foreach_add_(gradients[term.group], parts)
        else:
            gradients[term.group] = list(parts)
        for name, value in term.logs.items():
            logs[name] = logs[name] + value if name in logs else value
        losses.append(term.loss.detach())
    return Summed(gradients, logs, losses)


def finite(terms: Iterable[LossTerm]) -> Iterator[LossTerm]:
    """The terms; raises DivergedError at the first loss that is NaN or infinite, for which the host has to wait."""
    for term in terms:
        if not torch.isfinite(term.loss):
            raise DivergedError(NOT_FINITE)
        yield term


def check_bound(energies: Tensor, bound: float) -> None:
    """Raise DivergedError where the data's mean energy (averaged over scales) leaves the authors' bound."""
    mean = float(energies.mean())
    if abs(mean) > bound:
        raise DivergedError(f"the mean energy of the data is {mean:.3g}, outside [-{bound:g}, {bound:g}]")


def found_problem(losses: Sequence[float], energies: Sequence[float] | None, bound: float) -> str | None:
    """How a step diverged whose losses, and energies of the data by scale, have been read; None if it did not."""
    if not all(map(math.isfinite, losses)):
        return NOT_FINITE
    try:
        if energies is not None:
            check_bound(torch.tensor(energies), bound)
    except DivergedError as error:
        return str(error)
    return None
