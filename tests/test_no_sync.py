"""A training step enqueues its work and waits for nothing: on a GPU the processor is what one waits for.

On a CPU this sees the operators and functions by which values reach Python, those whose result has a shape that depends
on values, and constants that are made of Python's numbers (on a GPU a copy from the host). What it can't see there:
copies of tensors between the devices (`to`, and whether their memory is pinned), operators that wait inside of a GPU's
implementation only, and collectives of several processes. The last test sees the first two, on a machine with a GPU.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ebmctl.core import augment
from ebmctl.core.objective import LossTerm
from ebmctl.training import gradients
from tests.device import DEVICE
from tests.test_run import images, recipe, trainer

READS = {"_local_scalar_dense", "is_nonzero", "equal", "allclose", "_assert_async", "linalg_inv_ex", "_linalg_eigh"}
SHAPES = {"nonzero", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"}
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "repeat_interleave"}
METHODS = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__", "nonzero")


class NoSync(TorchDispatchMode):
    """Raises AssertionError where a step would wait, and counts the constants that it makes of Python's numbers."""

    def __init__(self):
        super().__init__()
        self.constants = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.removeprefix("aten::")
        assert name not in READS | SHAPES, f"{name} waits for the device"
        if name in INDEXING:
            indices = [i for i in (args[1] if isinstance(args[1], (list, tuple)) else args[1:2]) if i is not None]
            masks = [i for i in indices if isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{name} by a mask waits for the device"
        self.constants += name == "lift_fresh"
        return func(*args, **(kwargs or {}))


class NoReading(TorchFunctionMode):
    """Raises AssertionError at the methods that hand values to Python; on a CPU some of them call no operator."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        assert getattr(func, "__name__", "") not in METHODS, f"Tensor.{func.__name__} waits for the device"
        return func(*args, **(kwargs or {}))


COLOR = ("data.channels=3", "augment.blur=0.5", "augment.grey=0.5", "augment.color=1.0", "augment.flip=0.5")
TWO = ("network.blocks=[0, 0]", "network.multipliers=[1, 1]", "network.scales=2")
ICD = (*COLOR, "objective.entropy_after=0", "objective.kl_chunk=3", "objective.kl_samples=6", *TWO)
MATCHING = 'objective={name="energy-matching", pairing="independent", label_weight=0.1, cd_weight=0.01, steps=2}'
LABELS = ('data.label="class"', "data.label_dropout=0.5")
STEPS = {
    "icd": ICD,
    "icd fifo": (*ICD, 'objective.buffer_policy="fifo"', "augment.crop=1.0", "data.dequantize=true"),
    "cd": (*COLOR, 'objective.name="cd"', *LABELS),
    "energy-matching": (MATCHING, *LABELS),
    "label head": (
        MATCHING,
        *LABELS,
        'network={name="denoising", widths=[8, 8], label_head=8}',
        "run.energy_bound=1e4",
    ),
    "attention": (*ICD, "network.attention=1"),
}


def started(*changes):
    """A trainer whose buffer is full, after one step: what is made once has been made."""
    made = trainer(*changes, "run.steps=100", data=colored(*changes))
    made.late = 1000
    source = made.batches()
    if made.objective.buffer is not None:
        made.objective.buffer.add(
            torch.rand(40, *made.recipe.shape, generator=made.generator, device=DEVICE), made.generator
        )
    made.launch(next(source))
    return made, source


def colored(*changes):
    data = images(("a", "b"))
    data.images = data.images.expand(-1, recipe(*changes).data.channels, -1, -1).contiguous()
    return data


def check(*changes):
    """Take steps that may not wait; returns the constants made in a step."""
    made, source = started(*changes)
    batches = [next(source) for _ in range(3)]
    with NoSync() as seen, NoReading():
        for batch in batches:
            made.launch(batch)
    found = [metrics.values for metrics in made.read()]
    assert [values["step"] for values in found] == [1, 2, 3, 4]
    return seen.constants / len(batches), found[-1]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_waits_for_nothing(name):
    constants, values = check(*STEPS[name])
    assert constants == ("buffer" in values)  # its count stays on the host
    expected = {"icd": "loss_entropy", "cd": "loss_cd"}.get(name, "gradient")
    assert expected in values
    assert ("loss_label" in values) == (name in ("energy-matching", "label head"))


def by_mask(x, probability, generator):
    chosen = torch.rand(len(x), generator=generator) < probability
    x[chosen] = x[chosen].mean(1, keepdim=True)
    return x


def masked_slots(slot, slots):
    last = torch.full((slots,), -1)
    inside = slot < slots
    last.scatter_reduce_(0, slot[inside], torch.arange(len(slot))[inside], "amax")
    return last[slot]


def read_logs(group, loss, logs):
    return LossTerm(group, loss, {name: torch.tensor(value.tolist()) for name, value in logs.items()})


def checked(terms, parameters):
    return gradients.accumulate(gradients.finite(terms), parameters)


SYNCS = {
    "a mask in the augmentation": ("ebmctl.core.augment", "lose_color", by_mask, "by a mask"),
    "a mask in the buffer": ("ebmctl.core.buffer", "last_of_each", masked_slots, "by a mask"),
    "a number of the gradient": ("torch.nn.utils", "get_total_norm", lambda parts: float(parts[0].norm()), "__float__"),
    "a check of each loss": ("ebmctl.training.trainer", "accumulate", checked, "waits"),
    "an inverse in each call": (
        "ebmctl.core.augment",
        "_from_yiq",
        lambda *_: torch.linalg.inv(torch.eye(3)),
        "linalg_inv_ex",
    ),
    "a list of logs": ("ebmctl.core.cd", "LossTerm", read_logs, "tolist"),
}


@pytest.mark.parametrize("name", SYNCS)
def test_a_wait_is_found(name, monkeypatch):
    """The same test fails with any of these put in."""
    place, attribute, replacement, message = SYNCS[name]
    made, source = started(*ICD)
    batch = next(source)
    monkeypatch.setattr(f"{place}.{attribute}", replacement)
    with NoSync(), NoReading(), pytest.raises(AssertionError, match=message):
        made.launch(batch)


def test_constants_of_pythons_numbers_are_counted(monkeypatch):
    monkeypatch.setattr(augment, "_constant", augment._constant.__wrapped__)
    assert check(*ICD)[0] > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", STEPS)
def test_a_step_on_a_gpu_waits_for_nothing(name):
    """CUDA itself raises at what waits, as far as PyTorch tells it."""
    from accelerate import Accelerator

    from ebmctl.training.trainer import Trainer

    changes = STEPS[name]
    torch.use_deterministic_algorithms(False)  # as in a run
    made = Trainer(recipe(*changes, "run.steps=100"), colored(*changes), Accelerator())
    source = made.batches()
    if made.objective.buffer is not None:
        starts = torch.rand(40, *made.recipe.shape, generator=made.generator, device=made.accelerator.device)
        made.objective.buffer.add(starts, made.generator)
    made.launch(next(source))
    batch = next(source)
    try:
        torch.cuda.set_sync_debug_mode("error")
        made.launch(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert [metrics.step for metrics in made.read()] == [1, 2]
