"""The parts of the benchmarks that only compute, and that what they measure runs."""

from __future__ import annotations

import json
import math

import pytest
import torch

from bench import timing
from bench.gpu import device, gains, parts, precision, speed, table
from bench.gpu.unet import UNetConfig, UNetEnergy
from ebmctl.core.energy import energy_gradient

RATES = {"fp32": 50e12, "tf32": 400e12, "bf16": 800e12, "copy": 4e12, "device": "a card", "torch": "2"}


def record(part, variant, seconds, base=1.0, **more):
    return {
        "part": part,
        "variant": variant,
        "seconds": seconds,
        "base_seconds": base,
        "first_seconds": 9.0,
        "images": 128,
        "peak": 2 * 10**9,
        **more,
    }


def test_a_row_has_rates_and_shares():
    made = record("icd", "compiled bf16", 0.125, busy=0.95)
    row = table.row(made, RATES, {"flops": 50 * 10**12, "bytes": 10**12}, first=60.0)
    assert " ".join(row.split()) == "icd compiled bf16 125.00 8.00 400.00 0.500 1.000 0.95 1024 60.0 9.0 2.00"
    assert len(row) == len(table.HEAD)
    bare = table.row(record("icd", "eager fp32", 1.0) | {"peak": 0}, {}, {}, first=None)
    assert " ".join(bare.split()) == "icd eager fp32 1000.00 1.00 0.00 - - - 128 9.0 - -"
    assert len(bare) == len(table.HEAD)
    assert "400 tf32" in table.rates_line(RATES)


def test_targets_are_set_beside_the_figures():
    found = [
        record("icd", "eager fp32", 1.0),
        record("icd", "compiled tf32", 0.2, busy=0.8),
        record("icd", "compiled bf16", 0.2, base=2.0, busy=0.95),
        {"part": "icd", "variant": "compiled bf16", "first_seconds": 3.0},  # only compiled
    ]
    lines = {line.split("  ")[0]: line for line in table.verdicts(found)}
    assert lines["icd: compiled bf16 over eager fp32"].endswith("10.00    (target: 9)")
    assert lines["icd: compiled tf32, share of time that the GPU is busy"].endswith("(target: 0.9, MISSED)")
    assert lines["icd: compiled bf16, share of time that the GPU is busy"].endswith("0.95    (target: 0.9)")
    assert lines["icd: compiled bf16 over compiled tf32"].endswith("2.00    (target: 1.25)")


def test_gains_are_against_the_same_precision_and_count_the_longest_preparation():
    found = [
        *(record("icd", name, seconds) for name, seconds in (("eager tf32", 0.5), ("compiled tf32", 0.125))),
        record("langevin", "compiled tf32", 1 / 9) | {"first_seconds": 90.0},
        record("score", "compiled tf32", 0.01) | {"first_seconds": 900.0},
        {"part": "icd", "variant": "compiled tf32", "first_seconds": 120.0},
    ]
    ((name, factor, seconds),) = gains.gains(found)
    assert (name, seconds) == ("compiled tf32", 120.0)
    assert factor == pytest.approx(math.sqrt(4 * 9))


def test_runs_are_compared_stretch_by_stretch(tmp_path, capsys):
    for name, offset in (("a", 0.0), ("b", 2.0)):
        lines = [{"step": i, "gradient": i % 2 + offset, "energy_data": None} for i in range(24)]
        (tmp_path / name).write_text("\n".join(map(json.dumps, [*lines, {"event": "rollback", "step": 3}])))
    a, b = (precision.steps(tmp_path / name) for name in "ab")
    assert len(a) == 24
    found = list(precision.compared(a, b[:12]))
    assert [(name, step) for name, step, *_ in found] == [("gradient", 2 * i + 1) for i in range(6)]
    assert found[0][2:] == (0.5, 2.5, pytest.approx(2 / math.sqrt(0.5)))
    precision.main([str(tmp_path / "a"), str(tmp_path / "b")])
    assert "24 and 24 steps" in capsys.readouterr().out


def test_intervals_are_merged():
    assert device.merged([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert device.merged([]) == 0


def test_operations_and_bytes_are_counted_in_derivatives_too():
    weight = torch.rand(3, 4)

    def call():
        return energy_gradient(lambda x: (x @ weight).square().sum(1), torch.rand(2, 3))

    flops, moved = device.counted(call)
    assert flops == 2 * (2 * 2 * 3 * 4)  # the product, and its gradient to x
    assert moved == 2 * 4 * (2 * 3 + 3 * 4 + 2 * 4)


def test_medians_take_turns():
    calls = []
    first, second = timing.medians(
        lambda: calls.append(0), lambda: calls.append(1), wait=lambda: None, seconds=0, short=1e-9
    )
    assert calls == [0, 1] * 4
    assert min(first, second) >= 0


def test_the_most_wanted_comes_first_for_every_part():
    assert speed.planned(["icd", "check"])[:3] == [
        ("icd", "compiled tf32"),
        ("check", "captured fp32"),
        ("icd", "compiled bf16"),
    ]
    assert len(speed.planned(["icd", "check", "score"])) == 5 + 2 + 3
    assert speed.planned(["score"], ["eager tf32"]) == [("score", "eager tf32")]
    every = {*speed.TABLE, *speed.EQUAL, *(v for few in speed.FEW.values() for v in few)}
    assert every <= set(parts.VARIANTS)


def test_a_failed_measurement_costs_only_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "MEASURE", ["-c", "import sys; print('{\"ok\": 1}'); sys.exit(sys.argv[1] == 'bad')"])
    run = speed.Run(tmp_path / "speed.jsonl", float("inf"), [])
    assert run.measure("bad", "x") is None
    assert run.measure("good", "x") == {"part": "good", "variant": "x", "ok": 1}
    assert (run.failed, len((tmp_path / "speed.jsonl").read_text().splitlines())) == (1, 1)
    assert "FAILED" in capsys.readouterr().out


def test_the_unet_has_the_size_that_it_says():
    with torch.device("meta"):
        assert sum(p.numel() for p in UNetEnergy(UNetConfig(), 3, 32).parameters()) == 13_286_691
    network = UNetEnergy(parts.SMALL.unet, 3, 8)
    energy = network(torch.rand(2, 3, 8, 8))
    assert energy.shape == (2,)
    assert bool((energy > 1.1 * 192**0.5).all())


@pytest.mark.parametrize("name", ["langevin", "sample", "score", "score-gradient", "icd", "matching", "matching-unet"])
def test_each_part_runs(name):
    job = parts.PARTS[name](parts.VARIANTS[table.BASE], parts.SMALL, torch.device("cpu"))
    job.call()
    assert job.images
