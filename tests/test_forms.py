"""A training step is the same in every form, for every objective; a run keeps to its form."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

import ebmctl
from ebmctl.compose import expression as expressions
from ebmctl.compose.composition import Algebra, Composition, vocabulary
from ebmctl.core.energy import energy_gradient
from ebmctl.models.form import GAINS, Form, Gain, Work, choose, prepare, told
from ebmctl.models.model import samples
from ebmctl.training.folder import RunFolder
from ebmctl.training.trainer import fit
from tests.spies import gradients_of
from tests.test_run import check_resuming, finish, images, trainer

TRACED = Form("fp32", "captured")  # on a CPU the graphs run operation by operation
FILLED = ["objective.start='buffer'", "objective.entropy_after=8", "objective.kl_samples=6", "objective.kl_chunk=4"]
MATCHING = ["objective.name='energy-matching'", "objective.pairing='independent'"]
LABELS = ["data.label='class'", "data.label_dropout=0.3"]
STEPS = {
    "icd": FILLED,
    "icd through the whole chain": [*FILLED, "objective.kl_steps='all'"],
    "icd with labels": [*FILLED, *LABELS],
    "cd": ["objective.name='cd'"],
    "matching": MATCHING,
    "matching with labels": [*MATCHING, *LABELS, "objective.label_weight=0.1"],
    "matching with a label head": [
        *(s for s in (*MATCHING, *LABELS)),
        "network={name='denoising', widths=[4], label_head=8}",
        "objective.label_weight=0.1",
    ],
    "matching with chains": [*MATCHING, "objective.cd_weight=0.1", "objective.steps=2"],
}


@pytest.mark.parametrize("name", STEPS)
def test_losses_and_gradients_of_a_step_are_those_of_eager_mode(name):
    data = images(("a", "b", "c"))
    found = []
    for form in (Form(), TRACED):
        lines: list[str] = []
        made = trainer(*STEPS[name], "run.steps=3", data=data, form=form, say=lines.append)
        assert not any("not compiled" in line for line in lines)
        gradients = gradients_of(made)
        steps = [metrics.values for metrics in fit(made)]
        found.append((steps, gradients[0]))
    (exact, exact_gradients), (mine, my_gradients) = found
    for step, rounding in enumerate((1e-5, 1e-2, 1e-2)):  # Adam's first steps are signs of gradients: they part soon
        assert exact[step].keys() == mine[step].keys()
        for key in exact[step].keys() - {"seconds"}:
            assert mine[step][key] == pytest.approx(exact[step][key], rel=rounding, abs=1e-6), key
    total = torch.cat([part.flatten() for part in exact_gradients]).norm()
    for expected, part in zip(exact_gradients, my_gradients, strict=True):  # tests/core/test_fast.py does it in float64
        assert (
            part - expected
        ).norm() <= 1e-4 * expected.norm() + 2e-5 * total  # norms over few pixels amplify rounding
        assert bool(part.any()) == bool(expected.any())


def test_the_best_form_is_the_one_that_is_done_first():
    gains = {"eager": Gain(1, 0), "captured": Gain(2, 30), "compiled": Gain(4, 180)}
    assert Work(seconds=50).best(gains) == "eager"
    assert Work(seconds=100).best(gains) == "captured"
    assert Work(seconds=3000).best(gains) == "compiled"
    assert Work(limit=50).best(gains) == "eager"
    assert Work(limit=200).best(gains) == "captured"
    assert Work(limit=3000).best(gains) == "compiled"
    assert Work().best(gains) == "compiled"


def test_what_is_asked_for_is_done(monkeypatch):
    cpu = torch.device("cpu")
    long = Work(seconds=1e6)
    monkeypatch.setattr("ebmctl.models.form.missing", lambda _: "")
    assert choose(cpu, "auto", "off", long) == Form("fp32", "eager")
    assert choose(cpu, "bf16", "on", Work(0.0)) == Form("bf16", "compiled")
    assert choose(cpu, "auto", "auto", long) == Form("fp32", "compiled")
    assert choose(cpu, "auto", "auto", Work(0.0)) == Form("fp32", "eager")
    assert choose(torch.device("mps"), "auto", "auto", long) == Form("fp32", "eager")
    monkeypatch.setattr("ebmctl.models.form.missing", lambda _: "no C++ compiler")
    assert choose(cpu, "auto", "auto", long) == Form("fp32", "eager")


def test_on_a_gpu_the_precision_is_what_it_is_good_at(monkeypatch):
    cuda = torch.device("cuda")
    for has, precision in ((True, "bf16"), (False, "tf32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **_: has)
        assert choose(cuda, "auto", "auto", Work(0.0)) == Form(precision, "eager")
        assert choose(cuda, "fp32", "auto", Work(GAINS["cuda"]["captured"].seconds * 3)) == Form("fp32", "captured")


def test_a_run_goes_on_in_its_form_and_says_it(tmp_path):
    made = trainer(form=TRACED)
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    assert folder.form() is None
    finish(made, folder)
    assert folder.form() == TRACED
    assert json.loads((folder.model / "config.json").read_text())["provenance"]["form"] == "fp32, captured"
    cpu, short = torch.device("cpu"), Work(0.0)
    assert choose(cpu, "auto", "auto", short, Form("bf16", "compiled")) == Form("bf16", "compiled")
    assert choose(cpu, "fp32", "off", short, Form("bf16", "compiled")) == Form()
    assert choose(cpu, "auto", "auto", short, Form("bf16", "captured")) == Form("bf16", "eager")  # a GPU's only


@pytest.mark.parametrize("changed", [{"precision": "fp8", "execution": "eager"}, {"precision": "fp32"}, ["fp32"], 3])
def test_a_form_that_another_program_wrote_is_none(tmp_path, changed):
    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    for path in folder.checkpoints():
        document = json.loads((path / "state.json").read_text())
        (path / "state.json").write_text(json.dumps(document | {"form": changed}))
    assert folder.form() is None


def test_resuming_is_bit_exact_within_a_form(tmp_path):
    check_resuming(tmp_path / "run", "run.seed=0", 3, form=TRACED)


STEPS_OF = {"digits": {"flow_steps": 4}, "digits-icd": {"rounds": 1, "steps": 2, "final_steps": 1}}


@pytest.mark.parametrize("name", STEPS_OF)
def test_a_model_draws_the_same_images_in_every_form(name):
    model = ebmctl.load(name, "cpu")
    lines: list[str] = []
    quick = replace(model, form=TRACED, rows=3, say=lines.append)
    plan = model.recipe.sampling_plan(**STEPS_OF[name])
    images, same = (samples(m, plan, 5, seed=1) for m in (model, quick))
    assert torch.allclose(images, same, atol=1e-4)
    assert images.std() > 0.1
    assert lines
    assert not any("not compiled" in line for line in lines)
    before = len(lines)
    samples(quick, plan, 5, seed=2)
    assert len(lines) == before  # made once


def test_a_composition_is_the_same_in_every_form(monkeypatch, generator):
    expression = expressions.parse_terms(["young", "~smiling"])
    words = vocabulary(None, {}, ["young", "smiling"], torch.device("cpu"))
    composed = Composition(expression, words, Algebra())
    x = torch.rand(3, *composed.first.shape, generator=generator)
    exact = composed(x), energy_gradient(composed, x)
    monkeypatch.setattr("ebmctl.models.model.choose", lambda *_: TRACED)
    lines: list[str] = []
    composed.quicken(3, 1, "auto", lines.append)
    mine = composed(x), energy_gradient(composed, x)
    for a, b in zip(mine, exact, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))
    assert sum("captured" in line for line in lines) == 2
    assert not any("not compiled" in line for line in lines)
    made = len(lines)
    assert torch.allclose(composed.plain(x), exact[0], rtol=1e-4)
    assert len(lines) == made


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_a_precision_changes_nothing_of_the_cpu_s_products(precision, monkeypatch):
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "here")
    before = torch.backends.mkldnn.matmul.fp32_precision
    flags = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    try:
        prepare(Form(precision))
        assert torch.backends.mkldnn.matmul.fp32_precision == before
        assert matmul.allow_tf32 == cudnn.allow_tf32 == (precision != "fp32")
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = flags


def test_a_user_is_told_how_long_a_form_takes_to_prepare():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert told(Form(), cpu) == "fp32, eager"
    assert told(Form("bf16", "compiled"), cuda) == "bf16, compiled (ready in about 3 min)"
    assert told(Form("tf32", "captured"), cuda) == "tf32, captured (ready in about 30 s)"


def test_work_that_is_soon_done_is_not_compiled(monkeypatch):
    monkeypatch.setattr("ebmctl.models.form.missing", lambda _: "")
    model = ebmctl.load("digits", "cpu")
    lines: list[str] = []
    assert model.quick(64, 30, "auto", lines.append).form == Form()
    assert model.quick(512, 10**9, "off", lines.append).form == Form()
    assert lines == []
    assert model.quick(512, 10**9, "auto", lines.append).form == Form("fp32", "compiled")
    assert len(lines) == 1
