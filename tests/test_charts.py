"""The page's charts: where their values are, and that any metrics give a chart or none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmctl.evaluation.report.curves import BOTTOM, LEFT, POINTS, RIGHT, TOP, charts, round_numbers


def points(line) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.points.split()]


def test_a_curve_is_where_its_values_are():
    (chart,) = charts([{"step": 10 * k, "loss_x": 5.0 - k, "phase": 0, "note": "a", "on": True} for k in range(11)])
    (line,) = chart.lines
    assert points(line) == [
        (
            pytest.approx(LEFT + (RIGHT - LEFT) * k / 10, abs=0.06),
            pytest.approx(TOP + (BOTTOM - TOP) * k / 10, abs=0.06),
        )
        for k in range(11)
    ]
    assert [tick.text for tick in chart.across] == ["0", "20", "40", "60", "80", "100"]
    assert {tick.text: tick.at for tick in chart.up}["0"] == pytest.approx((TOP + BOTTOM) / 2, abs=0.06)
    assert chart.about == "loss x from step 0 to 100: loss_x ends at -5"


def test_many_steps_are_averaged():
    noisy = [{"step": k, "loss_x": k % 2} for k in range(1, 100_001)]
    (chart,) = charts([*noisy, {"step": 5, "event": "rollback", "loss_x": 1e9}, {"step": 7, "loss_x": math.nan}, [1]])
    (line,) = chart.lines
    assert len(points(line)) == POINTS
    (gradients,) = charts({"step": k, "gradient": 10.0**-k, "gradient_cd": 1.0} for k in range(1, 9))
    assert [line.name for line in gradients.lines] == ["all", "cd"]
    assert gradients.title.endswith("(logarithmic)")
    assert [tick.text for tick in gradients.up] == ["1e-08", "1e-06", "0.0001", "0.01", "1"]
    steps = [x for x, _ in points(gradients.lines[0])]
    heights = [y for _, y in points(gradients.lines[0])]
    assert heights == pytest.approx([TOP + (BOTTOM - TOP) * k / 8 for k in range(1, 9)], abs=0.06)
    assert steps == sorted(steps)


VALUES = st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=2), st.none(), st.lists(st.floats()))


@given(st.lists(st.fixed_dictionaries({"step": VALUES, "energy_x": VALUES, "gradient": VALUES}), max_size=9))
@settings(max_examples=150, deadline=None)
def test_any_metrics_give_charts_or_none(lines):
    for chart in charts(lines):
        for line in chart.lines:
            assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in points(line))
        assert len(chart.up) < 20
        assert len(chart.across) < 20


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9))
def test_round_numbers(low, width):
    found = round_numbers(low, low + width, 4)
    assert all(low - 1e-3 * width <= number <= low + 1.001 * width for number in found)
    assert 1 <= len(found) <= 9
