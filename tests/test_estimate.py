"""What a run needs, estimated before it: by a clock that the test moves, so that it is known to the second."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from ebmctl.cli import dry_run
from ebmctl.cli.dry_run import Outlook, look, reason
from ebmctl.core import flow
from ebmctl.core.cd import ImprovedCD
from ebmctl.core.langevin import Langevin
from ebmctl.core.matching import EnergyMatching
from ebmctl.data.labels import condition, condition_labels
from ebmctl.models import form
from ebmctl.models.form import EAGER, Form, Gain, Work
from ebmctl.training import estimate as estimating
from ebmctl.training import measure
from ebmctl.training.estimate import SURE, Alone, Estimate, eager_seconds, estimate
from ebmctl.training.measure import Meter, covered, random_images
from ebmctl.training.trainer import Trainer, fit
from tests.spies import OneOfTwo
from tests.test_cli import call
from tests.test_phases import BOTH, TWO
from tests.test_run import images, recipe

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LABELS = ('data.label="class"', "data.label_dropout=0.5")
LONG_CHAINS = "objective.steps=20"
STEPS = {
    "icd": (LONG_CHAINS,),
    "chains of one step": ("objective.steps=1",),
    "chains of three steps": ("objective.steps=3",),
    "conditional": (*LABELS, LONG_CHAINS),
    "phases": (LONG_CHAINS, TWO),
    "matching with chains": (BOTH, "phases.0.objective.steps=7"),
}


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but for what a step does: 3 s for each, and 0.25 s for each step of its chains."""
    now = SimpleNamespace(seconds=0.0, each=3.0, per_chain_step=0.25)
    for objective in (ImprovedCD, EnergyMatching):
        monkeypatch.setattr(objective, "losses", _taking(now, "each", objective.losses))
    monkeypatch.setattr(Langevin, "step", _taking(now, "per_chain_step", Langevin.step))
    monkeypatch.setattr(flow, "energy_gradient", _taking(now, "per_chain_step", flow.energy_gradient))
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    monkeypatch.setattr(estimating, "FEW_STEPS", 0)
    return now


def _taking(now, what, function):
    def call(*arguments, **options):
        now.seconds += getattr(now, what)
        return function(*arguments, **options)

    return call


def really(now, made) -> float:
    """Seconds of a run, by the clock."""
    before = now.seconds
    for _ in fit(Trainer(made, images(tuple("abcdefghij")) if made.data.label else images(), Accelerator(cpu=True))):
        pass
    return now.seconds - before


@pytest.mark.parametrize("name", STEPS)
def test_the_estimate_is_what_the_run_takes(clock, name):
    made = recipe(*STEPS[name])
    found = estimate(made, Accelerator(cpu=True), EAGER, print)
    seconds = really(clock, made)
    assert made.run.steps * found.seconds_per_step == pytest.approx(seconds)
    assert (found.seconds_to_compile, found.busy) == (0, None)
    assert eager_seconds(made, Accelerator(cpu=True)) == pytest.approx(seconds)


def test_all_buffers_count_and_are_full_when_a_step_is_measured():
    two_buffers = recipe("phases=[{share=0.5}, {share=0.5, objective={buffer_size=2000}}]", "objective.buffer_size=999")
    meter = Meter(two_buffers, Accelerator(cpu=True), EAGER)
    found = estimate(two_buffers, Accelerator(cpu=True), EAGER, print)
    assert found.memory_state == 20 * found.parameters + 64 * (999 + 2000)
    for phase in (0, 1):
        meter.enter(phase)
        buffer = meter.trainer.objective.buffer
        assert len(buffer) == len(buffer.images) == (999, 2000)[phase]
        assert buffer.images.float().std(0).min() > 60  # of uniform bytes it is 74
        assert meter.trainer.objective.past_samples() is not None


def test_a_measured_step_hardly_moves_the_weights_and_cannot_diverge():
    meter = Meter(recipe("optimizer.lr=1e6", "run.energy_bound=1e-30", TWO), Accelerator(cpu=True), EAGER)
    before = [parameter.clone() for parameter in meter.trainer.parameters]
    for phase in (0, 1):
        meter.enter(phase)
        meter.seconds(2, 3)
    assert meter.trainer.step == 6
    for old, new in zip(before, meter.trainer.parameters, strict=True):
        torch.testing.assert_close(old, new, rtol=0, atol=1e-6)


def test_measuring_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimating, "FEW_STEPS", 0)
    losses = ImprovedCD.losses

    def careless(self, *arguments):
        torch.rand(1)  # as a plugin may
        return losses(self, *arguments)

    monkeypatch.setattr(ImprovedCD, "losses", careless)
    before = torch.random.get_rng_state()
    accelerator = Accelerator(cpu=True)
    assert eager_seconds(recipe(), accelerator) > 0
    estimate(recipe(TWO), accelerator, EAGER, print)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "label", "labels"),
    [
        ("digits", "class", 10),
        ("cifar100", "class", 100),
        ("flipped:imagenet32", "class", 1000),
        ("objects", "identity", 4),
        ("objects", "size", 3),
        ("faces", "smiling", 2),
        ("noise", "", 0),
    ],
)
def test_random_images_have_the_labels_of_the_dataset(name, label, labels):
    made = recipe(f"data.label={label!r}", "optimizer.batch_size=2000")
    made = replace(made, data=replace(made.data, name=name))
    data = random_images(made)
    assert len(condition_labels(made, data)) == labels
    if labels:
        counts = condition(label, data, data.labels).sum(0)
        assert counts.sum() == 2000
        assert counts.max() - counts.min() <= 1


def test_a_short_run_on_a_cpu_is_not_measured(monkeypatch):
    monkeypatch.setattr(estimating, "Meter", lambda *_: pytest.fail("measured"))
    assert eager_seconds(recipe("run.steps=100"), Accelerator(cpu=True)) == 0.0
    assert not estimating.is_short(recipe("run.steps=101"), CPU)
    assert not estimating.is_short(recipe("run.steps=1"), CUDA)


def test_what_fails_gives_no_estimate(monkeypatch, clock):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(ImprovedCD, "losses", fail)
    assert eager_seconds(recipe(), Accelerator(cpu=True)) is None
    monkeypatch.setattr(ImprovedCD, "losses", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        eager_seconds(recipe(), Accelerator(cpu=True))


def test_a_slow_step_is_measured_once(clock):
    clock.each = 30.0
    assert eager_seconds(recipe("objective.steps=20"), Accelerator(cpu=True)) == pytest.approx(6 * 30.25)
    assert clock.seconds == 30.25


def test_on_a_gpu_the_first_step_says_nothing(clock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: None)
    meter, losses = Meter(recipe("objective.steps=20"), Alone(CPU), EAGER), ImprovedCD.losses
    meter.device, loading = CUDA, iter([60.0])

    def first_loads(*arguments):
        clock.seconds += next(loading, 0.0)
        return losses(*arguments)

    monkeypatch.setattr(ImprovedCD, "losses", first_loads)
    assert estimating._roughly(meter) == pytest.approx(6 * (3 + 20 * 0.25))


def test_of_a_long_run_only_that_is_found_out(clock):
    seconds = eager_seconds(recipe("objective.steps=20", "run.steps=100000", TWO), Accelerator(cpu=True))
    assert SURE <= seconds == 50_000 * 3
    assert clock.seconds == 2 * 3  # the first phase, a few images, twice


def test_a_run_of_a_slow_phase_after_a_quick_one(clock, monkeypatch):
    """The quick phase is measured, and what a step of the slow one takes is known after one."""
    losses = ImprovedCD.losses

    def slow(*arguments):
        clock.seconds += 27
        return losses(*arguments)

    monkeypatch.setattr(ImprovedCD, "losses", slow)
    made = recipe(LONG_CHAINS, TWO)
    assert eager_seconds(made, Accelerator(cpu=True)) == pytest.approx(3 * 3 + 3 * 30.25)


def test_processes_agree_and_measure_apart(clock):
    """The other process takes twice as long; measuring gathers nothing, as they may take different numbers of steps."""
    asked = []
    two = OneOfTwo(gathered=lambda mine: asked.append(mine) or 2 * mine)
    assert eager_seconds(recipe(), two) == pytest.approx(2 * 6 * 3.5)
    assert len(asked) == 1
    assert eager_seconds(recipe(), OneOfTwo(gathered=lambda mine: mine + float("inf"))) is None


def test_a_few_steps_are_read_together_as_in_a_run(clock):
    meter = Meter(recipe(), Alone(CPU), EAGER)
    launched, read = [], []
    launch, reading = meter.trainer.launch, meter.trainer.read
    meter.trainer.launch = lambda batch: launched.append(batch) or launch(batch)
    meter.trainer.read = lambda: read.append(len(meter.trainer.unread)) or reading()
    meter.trainer.late = 16
    assert meter.seconds(2, 16) == pytest.approx(3.5)
    assert (len(launched), read) == (16, [16])


def test_the_clock_of_a_gpu_is_read_when_it_is_done(clock, monkeypatch):
    meter, order = Meter(recipe(), Alone(CPU), EAGER), []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *_: order.append("waited"))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: order.append("read") or 0.0)
    meter.device = CUDA
    steps = meter._steps
    meter._steps = lambda *arguments: order.append("steps") or steps(*arguments)
    meter.seconds(2)
    assert order == ["waited", "read", "steps", "waited", "read"]


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0),
        ([(1, 2), (3, 5)], 3),
        ([(3, 5), (1, 2)], 3),
        ([(1, 4), (2, 3), (2, 6)], 5),
        ([(1, 2), (2, 3)], 2),
        ([(0, 10), (1, 2), (9, 11)], 11),
    ],
)
def test_time_that_spans_share_counts_once(spans, seconds):
    assert covered(spans) == pytest.approx(seconds)


def test_how_busy_a_gpu_is(clock, monkeypatch):
    """Of a step of 3.5 s two kernels take 1.5 s."""
    meter, seen = Meter(recipe(), Alone(CPU), EAGER), [(100.0, 101.0), (100.5, 101.5)]
    monkeypatch.setattr(measure, "gpu_spans", lambda work: work() or seen)
    assert meter.busy(2) == pytest.approx(1.5 / 3.5)
    seen.append((102.0, 110.0))
    assert meter.busy(2) == 1
    monkeypatch.setattr(measure, "gpu_spans", lambda _: [])
    assert meter.busy(2) is None


def test_kernels_and_copies_of_a_gpu_and_nothing_else(monkeypatch):
    def event(kind, start, end, **more):
        return SimpleNamespace(
            device_type=SimpleNamespace(name=kind), time_range=SimpleNamespace(start=start, end=end), **more
        )

    class Profile:
        def __init__(self, activities):
            assert [activity.name for activity in activities] == ["CUDA"]

        def __enter__(self):
            return self

        def __exit__(self, *_):
            done.append("left")

        def events(self):
            return [
                event("CUDA", 1e6, 2e6, is_user_annotation=False),
                event("CUDA", 3e6, 4e6),
                event("CUDA", 0, 9e6, is_user_annotation=True),  # "Optimizer.step", with all of its gaps
                event("CPU", 0, 9e6),
            ]

    done = []
    monkeypatch.setattr("torch.profiler.profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("waited"))
    assert measure.gpu_spans(lambda: done.append("worked")) == [(1, 2), (3, 4)]
    assert done == ["worked", "waited", "left"]


@pytest.mark.slow
def test_compiling_is_measured_apart():
    found = estimate(recipe(), Accelerator(cpu=True), Form("fp32", "captured"), print)
    assert 0 < found.seconds_per_step < found.seconds_to_compile


@pytest.fixture
def gains(monkeypatch):
    """What compiling brings, whatever is measured next."""
    known = {"eager": Gain(1, 0), "captured": Gain(2, 30), "compiled": Gain(4, 180)}
    monkeypatch.setitem(form.GAINS, "cuda", known)
    monkeypatch.setitem(form.GAINS, "cpu", {"eager": Gain(1, 0), "compiled": Gain(1.5, 60)})


LINES = [
    ("eager", "cpu", "off", None, None, "--compile off"),
    ("compiled", "cpu", "on", None, None, "--compile on"),
    ("eager", "mps", "on", None, None, "networks are not compiled for this device"),
    ("eager", "cpu", "auto", 0.0, None, "a short run: compiling would take longer than it saves"),
    ("eager", "cpu", "auto", 70.0, None, "1 min 10 s in eager mode: compiling would take longer than it saves"),
    ("eager", "cpu", "auto", None, 60.0, "--time 1 min: compiling would take longer than it saves"),
    ("captured", "cuda", "auto", None, 180.0, "--time 3 min; captured it is usually 2 times as fast, after 30 s"),
    (
        "compiled",
        "cuda",
        "auto",
        7200.0,
        None,
        "2 h in eager mode; compiled it is usually 4 times as fast, after 3 min",
    ),
]


@pytest.mark.parametrize(("execution", "device", "compile", "seconds", "limit", "line"), LINES)
def test_why_a_form_was_chosen(execution, device, compile, seconds, limit, line, monkeypatch, gains):
    monkeypatch.setattr(dry_run, "missing", lambda _: "")
    made, work = Form("fp32", execution), Work(seconds, limit)
    assert reason(made, torch.device(device), compile, work).startswith(line)


def test_what_is_missing_is_said(monkeypatch, gains):
    monkeypatch.setattr(dry_run, "missing", lambda device: {"cpu": "no C++ compiler", "cuda": "no Triton"}[device.type])
    assert reason(EAGER, CPU, "auto", Work(1e6)) == "no C++ compiler to compile with"
    assert "no Triton to compile with" in reason(Form("bf16", "captured"), CUDA, "auto", Work(1e6))


@pytest.fixture
def measured(monkeypatch, gains):
    """Estimates that are made up: a second for a step in eager mode, a quarter of it once compiled."""
    forms = []

    def made_up(_recipe, _accelerator, form, _say):
        forms.append(form)
        fast = form.execution != "eager"
        return Estimate(1000, 20000, 5 << 30, 0.25 if fast else 1.0, 200.0 if fast else 0.0, 0.97)

    monkeypatch.setattr(dry_run, "estimate", made_up)
    monkeypatch.setattr(dry_run, "missing", lambda _: "")
    monkeypatch.setattr(form, "missing", lambda _: "")
    monkeypatch.setattr(dry_run, "prepare", lambda _: None)
    return forms


def outlook(device, steps, compile="auto", limit=None) -> Outlook:
    return look(recipe(f"run.steps={steps}"), Alone(device), "auto", compile, limit, lambda _: None)


def test_on_a_cpu_the_compiled_form_is_measured_only_where_it_was_asked_for(measured):
    found = outlook(CPU, 10_000)
    assert (str(found.form), found.measured, len(measured)) == ("fp32, compiled", False, 1)
    assert found.own.seconds_per_step == pytest.approx(1 / 1.5)
    assert found.seconds(10_000) == pytest.approx(60 + 10_000 / 1.5)
    found = outlook(CPU, 10_000, "on")
    assert (found.measured, len(measured)) == (True, 3)
    assert found.seconds(10_000) == 200 + 2500
    assert (found.eager.seconds_per_step, found.own.seconds_per_step) == (1.0, 0.25)


def test_a_run_that_is_short_is_not_compiled(measured):
    for found in (outlook(CPU, 100), outlook(CPU, 10_000, "off"), outlook(CPU, 10_000, limit=20.0)):
        assert str(found.form) == "fp32, eager"
        assert found.own is found.eager
    assert len(measured) == 3


@pytest.fixture
def gpu(monkeypatch):
    """What this machine's GPU says of itself."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H200")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (139 * 10**9, 141 * 10**9))


def test_on_a_gpu_both_forms_are_measured_and_told(measured, gpu, monkeypatch, here):
    monkeypatch.setattr(dry_run, "make_accelerator", lambda _: Alone(CUDA))
    status, out, err = call("train", "noise", "--recipe", "tiny.toml", "--steps", "100000", "--dry-run", "--json")
    assert status == 0, err
    assert [str(form) for form in measured] == ["bf16, eager", "bf16, compiled"]
    found = json.loads(out)
    assert (found["device"], found["device_memory"], found["device_memory_free"]) == (
        "NVIDIA H200", 141 * 10**9, 139 * 10**9,
    )  # fmt: skip
    assert (found["form"], found["busy"]) == ({"precision": "bf16", "execution": "compiled"}, 0.97)
    assert (found["seconds_per_step"], found["seconds_per_step_eager"], found["seconds_to_compile"]) == (0.25, 1, 200)
    assert found["seconds"] == 200 + 25_000
    out = call("train", "noise", "--recipe", "tiny.toml", "--steps", "100000", "--dry-run")[1]
    told = dict(
        re.split(r" {2,}", line.strip(), maxsplit=1) for line in out.splitlines() if re.search(r"\S {2,}", line)
    )
    assert told["device"] == "NVIDIA H200, 141 GB, of which 139 GB are free"
    assert told["form"] == "bf16, compiled"
    assert told["peak memory of the GPU"] == "5,369 MB"
    assert (told["seconds per training step"], told["in eager mode"]) == ("0.25", "1")
    assert (told["compiling takes"], told["the GPU is busy"]) == ("3 min 20 s", "97% of the time")
    assert told["100,000 steps take"] == "7 h"


def test_only_the_first_of_several_processes_tells(measured, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "make_accelerator", lambda _: OneOfTwo(rank=1))
    dry_run.dry_run(recipe(), "cpu", "auto", "auto", None, as_json=False)
    assert tuple(capsys.readouterr()) == ("", "")
