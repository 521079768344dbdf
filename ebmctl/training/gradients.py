"""From an objective's loss terms to the gradient of the parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ebmctl.core.objective import LossTerm
from ebmctl.errors import DivergedError


def accumulate(
    terms: Iterable[LossTerm], parameters: list[nn.Parameter]
) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
    """Each group's gradient, summed over its terms, and the terms' logs; logs of one name are summed too.

    Raises DivergedError at the first loss that is NaN or infinite.
    """
    gradients: dict[str, list[Tensor]] = {}
    logs: dict[str, Tensor] = {}
    for term in terms:
        if not torch.isfinite(term.loss):
            raise DivergedError("the energies are NaN or infinite")
        parts = torch.autograd.grad(term.loss, parameters, allow_unused=True, materialize_grads=True)
        if term.group in gradients:
            torch._foreach_add_(gradients[term.group], parts)
        else:
            gradients[term.group] = list(parts)
        for name, value in term.logs.items():
            logs[name] = logs[name] + value if name in logs else value
    return gradients, logs


def check_bound(energies: Tensor, bound: float) -> None:
    """Raise DivergedError where the data's mean energy (averaged over scales) leaves the authors' bound."""
    mean = float(energies.mean())
    if abs(mean) > bound:
        raise DivergedError(f"the mean energy of the data is {mean:.3g}, outside [-{bound:g}, {bound:g}]")
