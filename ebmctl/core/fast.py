"""Energy networks that run compiled: the same energies and derivatives, up to the second, as graphs of fused kernels.

One mechanism for all that is repeated: the energies and their gradient to the image are functions of tensors
(parameters, images, labels) that are traced once with all of their derivatives (`core.tracing`), lowered by Inductor,
and on CUDA captured in graphs, which are replayed by one call. Objectives and samplers need not know of it. They draw
their random numbers outside of the graphs, so that a seed means the same in every form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from ebmctl.core.energy import EnergyNetwork, Wrapper, energy_gradient, frozen, refresh
from ebmctl.core.tracing import Graphs, UntraceableError, trace

Kernel = Callable[..., Sequence[Tensor]]
Lower = Callable[[fx.GraphModule, Sequence[Tensor]], Kernel]
"""From a graph and examples of its inputs to a faster form of it."""


def inductor(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Kernel:
    """Fused kernels by Inductor, which needs a C++ compiler, or Triton on CUDA.

    Inductor keeps what it compiled for the next run only where it finds the context that torch.compile makes: with it
    the first run takes longer, on a CPU up to three times, and later ones seconds.
    """
    from torch._guards import TracingContext, tracing
    from torch._inductor import compile as lowered
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    with tracing(TracingContext(FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True))):
        made: Kernel = lowered(graph, list(inputs))
    return made


def as_it_is(graph: fx.GraphModule, _inputs: Sequence[Tensor]) -> Kernel:
    """The graph, run operation by operation: with graphs of CUDA, fast to make and free of the processor."""
    return graph


class Fast(Wrapper):
    """An energy network whose methods run compiled, and in plain eager mode where they can't.

    A method maps images (B, C, H, W), and what else it takes, to a value for each image. Programs are made for few
    batch sizes (`padded`); others are filled up, or split where they have more than `most` images. Derivatives beyond
    the compiled ones are taken in eager mode. `say` is told in one line what is compiled, and what could not be.
    """

    def __init__(
        self, network: EnergyNetwork, lower: Lower, most: int = 1024, say: Callable[[str], None] = lambda _: None
    ) -> None:
        super().__init__(network)
        self.label_optional = network.label_optional
        self.lower, self.most, self.say = lower, most, say
        self.programs: dict[Any, _Program | None] = {}
        self.part: Fast | None = None
        named = [*network.named_parameters(), *network.named_buffers()]
        self.names, self.state = [name for name, _ in named], [tensor for _, tensor in named]

    def evaluate(self, method: str, x: Tensor, *rest: Any) -> Tensor:
        """See `EnergyNetwork.evaluate`."""
        return self._in_parts(method, x, rest)

    def gradient(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        """The energy's gradient to images, (B, C, H, W), which in gradient mode is itself differentiable."""
        return self._in_parts("gradient", x, (label,))

    def label_part(self) -> EnergyNetwork | None:
        """See `EnergyNetwork.label_part`; it runs compiled too."""
        part = self.network.label_part()
        if part is not None and self.part is None:
            self.part = Fast(part, self.lower, self.most, self.say)
        return self.part

    def _in_parts(self, method: str, x: Tensor, rest: tuple[Any, ...]) -> Tensor:
        if len(x) == 0:
            return self.network.evaluate(method, x, *rest) if method != "gradient" else torch.zeros_like(x)
        if len(x) <= self.most:
            return self._filled_up(method, x, rest)
        starts = range(0, len(x), self.most)
        parts = [(x[i : i + self.most], tuple(_rows(r, i, self.most) for r in rest)) for i in starts]
        return torch.cat([self._filled_up(method, *part) for part in parts])

    def _filled_up(self, method: str, x: Tensor, rest: tuple[Any, ...]) -> Tensor:
        count = len(x)
        more = padded(count, self.most) - count
        if more:  # any image will do: each one's value depends on that image only
            x = torch.cat([x, x[:1].expand(more, *x.shape[1:])])
            rest = tuple(torch.cat([r, r[:1].expand(more, -1)]) if isinstance(r, Tensor) else r for r in rest)
        return self._run(method, x, rest)[:count]

    def _run(self, method: str, x: Tensor, rest: tuple[Any, ...]) -> Tensor:
        batch = [t.contiguous() for t in (x, *rest) if isinstance(t, Tensor)]  # as they were traced
        inputs = [*self.state, *batch]
        wanted = [i for i, tensor in enumerate(inputs) if tensor.requires_grad] if torch.is_grad_enabled() else []
        shapes = tuple((tuple(t.shape), t.dtype) for t in batch)
        key = (method, shapes, tuple(r for r in rest if not isinstance(r, Tensor)), tuple(wanted))
        call = _Call(self.network, self.names, method, rest)
        if key not in self.programs:
            self.programs[key] = self._program(call, inputs, wanted)
        program = self.programs[key]
        if program is None:
            return call(*inputs)
        if not program.differentiated:
            with torch.no_grad():
                return program.forward(inputs)[0]
        value: Tensor = _Differentiable.apply(program, call, *inputs)
        return value

    def _program(self, call: _Call, inputs: list[Tensor], wanted: list[int]) -> _Program | None:
        fixed = len(self.state)
        what = f"{call.method.replace('_', ' ')} of {len(inputs[fixed])} images"
        self.say(
            f"{'compiling' if self.lower is inductor else 'capturing'} {what}{' and its derivatives' if wanted else ''}"
        )
        try:
            with torch.no_grad():
                graphs, examples = trace(call, inputs, wanted), [tensor.detach() for tensor in inputs]
                if inputs[fixed].is_cuda:
                    return _Captured(graphs, examples, self.lower, fixed)
                return _Program(graphs, examples, self.lower)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler and a driver may raise anything; the network runs eager, and says why
            reason = error if isinstance(error, UntraceableError) else f"{type(error).__name__}: {error}"
            self.say(f"{call.method} is not compiled: {str(reason).strip().partition(chr(10))[0][:300]}")
            return None


class FastFreeze:
    """`frozen` that keeps one compiled copy and brings its parameters up to date in place: it is compiled once."""

    def __init__(self, network: EnergyNetwork, lower: Lower, most: int, say: Callable[[str], None]) -> None:
        self.network = network
        self.copy = Fast(frozen(network), lower, most, say)

    def __call__(self, _network: EnergyNetwork) -> EnergyNetwork:
        """The compiled copy, with the parameters that the network has now."""
        refresh(self.copy.network, self.network)
        return self.copy


def padded(count: int, most: int) -> int:
    """The batch size, `count` or more, that a program is made for: of 1, 2, 3, 4, 6, 8, 12, ... and `most`."""
    power = 1 << max(count - 1, 0).bit_length()
    size = power * 3 // 4 if power >= 4 and count <= power * 3 // 4 else power
    return min(size, most)


class _Call:
    """A method of a network as a function of its parameters and buffers, the images, and other tensors."""

    def __init__(self, network: EnergyNetwork, names: Sequence[str], method: str, rest: tuple[Any, ...]) -> None:
        self.network, self.names, self.method, self.rest = network, names, method, rest

    def __call__(self, *inputs: Tensor) -> Tensor:
        values = {f"network.{name}": value for name, value in zip(self.names, inputs, strict=False)}
        x, *others = inputs[len(values) :]
        tensors = iter(others)
        rest = [next(tensors) if isinstance(r, Tensor) else r for r in self.rest]
        value: Tensor = functional_call(_Method(self.network, self.method), values, (x, *rest))
        return value


class _Method(nn.Module):
    """A method as what `functional_call` takes."""

    def __init__(self, network: EnergyNetwork, method: str) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        if self.method == "gradient":
            return energy_gradient(lambda x: self.network(x, *rest), x, create_graph=torch.is_grad_enabled())
        return self.network.evaluate(self.method, x, *rest)


class _Program:
    """The lowered graphs of a function of some inputs."""

    def __init__(self, graphs: Graphs, inputs: list[Tensor], lower: Lower) -> None:
        self.differentiated = graphs.differentiated
        self._forward = lower(graphs.forward, inputs)
        self._backward: Kernel | None = None
        if graphs.backward is not None:
            value, *saved = self._forward(*inputs)
            self._backward = lower(graphs.backward, [*saved, zeros_like(value)])

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], object]:
        """The value, what is kept for `backward`, and a token of this call."""
        value, *saved = self._forward(*inputs)
        return value, saved, None

    def backward(
        self, _token: object, _inputs: Sequence[Tensor], saved: list[Tensor], upstream: Tensor
    ) -> list[Tensor]:
        """The gradients of the inputs `differentiated`, given that of the value."""
        assert self._backward is not None
        return list(self._backward(*saved, upstream.contiguous()))


class _Captured(_Program):
    """The same in CUDA graphs. What is kept for `backward` stays in the graph's memory until the next `forward`."""

    def __init__(self, graphs: Graphs, inputs: list[Tensor], lower: Lower, fixed: int) -> None:
        super().__init__(graphs, inputs, lower)
        self.fixed = fixed
        self.newest: object = None
        # what is kept must outlive calls of other programs
        pool = torch.cuda.graph_pool_handle() if self._backward else _shared_pool()[0]
        self._replay_forward = captured(self._forward, inputs[:fixed], inputs[fixed:], pool)
        if self._backward is not None:
            value, *saved = self._replay_forward(*inputs[fixed:])
            self._replay_backward = captured(self._backward, saved, [zeros_like(value)], pool)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], object]:
        """See `_Program.forward`; nothing but the token is kept outside of the graph."""
        value = self._replay_forward(*inputs[self.fixed :])[0]
        self.newest = object()
        return value.clone(), [], self.newest

    def backward(self, token: object, inputs: Sequence[Tensor], _saved: list[Tensor], upstream: Tensor) -> list[Tensor]:
        """See `_Program.backward`."""
        if token is not self.newest:  # another call has overwritten what this one left
            self.forward(inputs)
        parts = list(self._replay_backward(upstream))
        own = [torch.empty_like(part) for part in parts]
        torch._foreach_copy_(own, parts)
        return own


class _Differentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, program: _Program, call: _Call, *inputs: Tensor) -> Tensor:
        value, saved, ctx.token = program.forward(inputs)
        ctx.program, ctx.call, ctx.count = program, call, len(inputs)
        ctx.save_for_backward(*inputs, *saved)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        program, found = ctx.program, [None] * ctx.count
        inputs, saved = ctx.saved_tensors[: ctx.count], list(ctx.saved_tensors[ctx.count :])
        if torch.is_grad_enabled():  # under create_graph: a derivative beyond the compiled ones
            value = ctx.call(*inputs)
            wanted = [inputs[i] for i in program.differentiated]
            parts = torch.autograd.grad(value, wanted, upstream, create_graph=True, allow_unused=True)
        else:
            parts = program.backward(ctx.token, inputs, saved, upstream)
        for index, part in zip(program.differentiated, parts, strict=True):
            found[index] = part
        return (None, None, *found)


def zeros_like(value: Tensor) -> Tensor:
    """Zeros of that shape, in memory one after the other."""
    return torch.zeros(value.shape, dtype=value.dtype, device=value.device)


@functools.cache
def _shared_pool() -> Any:
    """The memory of all graphs whose results are copied at once and which keep nothing.

    A graph that does nothing stays in it for good: a pool whose last graph is gone can't be used again.
    """
    pool, keeper = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(keeper, pool=pool, capture_error_mode="thread_local"):
        torch.zeros(1, device="cuda")
    return pool, keeper


def captured(kernel: Kernel, fixed: Sequence[Tensor], moving: Sequence[Tensor], pool: Any) -> Kernel:
    """A kernel of [*fixed, *moving] in a CUDA graph, as a function of `moving`.

    The fixed inputs are read where they are, the others are copied in. Results stay in the graph's memory until a call
    of a graph of the same pool overwrites them.
    """
    own = [tensor.clone() for tensor in moving]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # whatever happens at a first call, such as choosing algorithms, is not for the graph
        for _ in range(3):
            kernel(*fixed, *own)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        results = kernel(*fixed, *own)

    def replay(*new: Tensor) -> Sequence[Tensor]:
        torch._foreach_copy_(own, list(new))
        graph.replay()
        return results

    return replay


def _rows(value: Any, start: int, count: int) -> Any:
    return value[start : start + count] if isinstance(value, Tensor) else value
