"""The gradient of composed faces: what k concepts cost beside one, how much memory, and whether stacking would help."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state

from bench.timing import best
from ebmctl.compose.composition import PLAIN, Algebra, Composition, Vocabulary
from ebmctl.compose.expression import parse
from ebmctl.config.recipe import resolve
from ebmctl.core.compose import EnergiesWithGradients
from ebmctl.core.energy import energy_gradient
from ebmctl.models.folder import ModelConfig, build_network
from ebmctl.models.model import Model

NAMES = ("young", "female", "smiling", "wavy_hair")
IMAGES = 16


def vocabulary() -> Vocabulary:
    """The concepts of faces by their recipe, with random weights."""
    words = Vocabulary("faces", {name: Path() for name in NAMES})
    for name in NAMES:
        recipe = resolve("faces", None, [f"data.label={name}"], {})
        config = ModelConfig(recipe, (f"not {name}", name), {})
        words.loaded[name] = Model(config, build_network(recipe.network, 3, 2).eval())
    return words


class Kept:
    """A tensor that a graph keeps, counted as long as it does."""

    now = most = 0

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        Kept.now += tensor.nbytes
        Kept.most = max(Kept.most, Kept.now)

    def __del__(self) -> None:
        Kept.now -= self.tensor.nbytes


def held(energy: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Megabytes that graphs hold at a time, at most."""
    Kept.now = Kept.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        energy_gradient(energy, x)
    return Kept.most / 1e6


def main() -> None:
    torch.manual_seed(0)
    words = vocabulary()
    x = torch.rand(IMAGES, 3, 32, 32)
    for title, algebra in (("shared part once", Algebra()), ("whole energies", PLAIN)):
        composed = [Composition(parse(" & ".join(NAMES[:k])), words, algebra) for k in range(1, 5)]
        times = best(*(lambda c=c: energy_gradient(c, x) for c in composed), rounds=15)
        print(f"{title}: a gradient of {IMAGES} images, one concept {1000 * times[0]:.1f} ms")
        for k in (2, 3, 4):
            print(f"{k} concepts over {k} times one  {times[k - 1] / (k * times[0]):8.3f}    (target: at most 1.05)")
    networks = [composed[-1].networks[name] for name in NAMES]
    label = torch.eye(2)[1].expand(IMAGES, -1)
    parameters, buffers = stack_module_state(networks)
    base = copy.deepcopy(networks[0]).to("meta")
    stacked = torch.func.vmap(lambda p, b, y: functional_call(base, (p, b), (y, label)), in_dims=(0, 0, None))
    turns = [EnergiesWithGradients(network, label[:1]) for network in networks]

    def whole(y: Tensor) -> Tensor:
        return sum(network(y, label) for network in networks)

    def in_turn(y: Tensor) -> Tensor:
        return sum(energies(y)[0] for energies in turns)

    times = best(
        lambda: energy_gradient(in_turn, x),
        lambda: energy_gradient(whole, x),
        lambda: energy_gradient(lambda y: stacked(parameters, buffers, y).sum(0), x),
        rounds=15,
    )
    print(f"four networks, each with its gradient at once  {1000 * times[0]:8.1f} ms, {held(in_turn, x):6.1f} MB held")
    print(f"one graph of all over that                     {times[1] / times[0]:8.3f}, {held(whole, x):11.1f} MB held")
    print(f"weights stacked, by vmap, over that            {times[2] / times[0]:8.3f}    (kept apart where above 1)")


if __name__ == "__main__":
    main()
