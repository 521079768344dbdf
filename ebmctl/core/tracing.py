"""A function of tensors as graphs of plain operations: one for its values, one for its gradients.

Everything that autograd does, derivatives of derivatives too, is in the graphs: whatever runs them needs none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.func import functionalize

Function = Callable[..., Tensor]


class UntraceableError(Exception):
    """A function that is no graph of plain operations, and why."""


@dataclass(frozen=True)
class Graphs:
    """The graphs of a function of N tensors.

    `forward` maps these to [value, *saved]; `backward` maps [*saved, the value's gradient] to the gradients of the
    inputs `differentiated`. Without these there is no `backward`, and nothing is saved.
    """

    forward: fx.GraphModule
    backward: fx.GraphModule | None
    differentiated: tuple[int, ...]


def trace(function: Function, inputs: Sequence[Tensor], wanted: Sequence[int]) -> Graphs:
    """The graphs of a function of tensors, differentiated once by the inputs `wanted`; it may differentiate itself.

    Its shapes are those of `inputs`. Raises UntraceableError where the function draws random numbers, changes its
    inputs, or decides by values.
    """
    try:
        return _trace(function, [t.detach() for t in inputs], wanted)
    except UntraceableError:
        raise
    except Exception as error:  # anything may be raised in the depths of tracing
        raise UntraceableError(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}") from error


def _trace(function: Function, inputs: list[Tensor], wanted: Sequence[int]) -> Graphs:
    if not wanted:

        def values(*tensors: Tensor) -> list[Tensor]:
            return [function(*tensors).detach()]

        return Graphs(_plain(values, inputs), None, ())

    affected: list[int] = []

    def both(*tensors: Tensor) -> list[Tensor]:
        *primals, upstream = tensors
        with torch.enable_grad():
            for index in wanted:
                primals[index] = primals[index].detach().requires_grad_()
            value = function(*primals)
            if not value.requires_grad:
                return [value]
            found = torch.autograd.grad(value, [primals[i] for i in wanted], upstream, allow_unused=True)
        affected[:] = [index for index, part in zip(wanted, found, strict=True) if part is not None]
        return [value.detach(), *(part for part in found if part is not None)]

    with torch.no_grad():
        value = function(*inputs)
    upstream = torch.zeros(value.shape, dtype=value.dtype, device=value.device)
    joint = _plain(both, [*inputs, upstream])
    if not affected:
        return trace(function, inputs, ())
    for index, node in enumerate(joint.graph.find_nodes(op="placeholder")):  # as the partitioner knows them
        node.target = node.name = f"primals_{index + 1}" if index < len(inputs) else "tangents_1"
    joint.recompile()
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    forward, backward = min_cut_rematerialization_partition(joint, [*inputs, upstream], num_fwd_outputs=1)
    return Graphs(forward, backward, tuple(affected))


def _plain(function: Callable[..., list[Tensor]], inputs: list[Tensor]) -> fx.GraphModule:
    """A graph without autograd and without operations that change a tensor in place."""
    import torch._inductor.lowering  # some decompositions take for granted that it is there
    from torch._inductor.decomposition import select_decomp_table
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(function, tracing_mode="fake")(*inputs)
    graph = make_fx(functionalize(graph), select_decomp_table(), tracing_mode="fake")(*inputs)
    graph.graph.eliminate_dead_code()
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.copy_.default:
            raise UntraceableError("it changes its parameters or buffers")
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UntraceableError(f"it draws random numbers ({node.target})")
    graph.recompile()
    return graph
