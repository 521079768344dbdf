"""The pictures of a training's curves: what is drawn where, and that any metrics give pictures or none."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from ebmctl.evaluation.curves import DARK, LIGHT, ON_WHITE, about, draw, extremes, is_logarithmic, means, number, png
from ebmctl.evaluation.report.pictures import chart_of
from ebmctl.models.metrics import Group, Metrics, Series


def axes_of(group: Group):
    axes = Figure().subplots()
    draw(axes, group, LIGHT)
    return axes


def curve(values, first: int = 1) -> Series:
    return Series(list(range(first, first + len(values))), [float(value) for value in values])


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


def test_a_curve_is_what_the_file_has():
    (group,) = Metrics([{"step": 10 * k, "loss_x": 5.0 - k} for k in range(11)]).groups()
    (line, _zero) = axes_of(group).lines
    assert line.get_xydata().tolist() == [[10 * k, 5 - k] for k in range(11)]
    assert about(group) == "loss x from step 0 to 100: loss_x ends at -5"


def test_many_steps_are_faint_and_their_means_bold():
    values = np.random.default_rng(0).normal(size=50_000).round(3)
    faint, bold, _zero = axes_of(Group("x", {"x": curve(values)})).lines
    assert (faint.get_alpha(), bold.get_alpha()) == (0.35, None)
    steps, drawn = faint.get_xydata().T
    assert (values[steps.astype(int) - 1] == drawn).all()  # of the file, where they are in it
    assert {values.min(), values.max()} <= set(drawn)
    assert 300 < len(drawn) <= 600
    assert np.abs(bold.get_ydata()).max() < 0.3
    assert len(bold.get_ydata()) < 600


@given(st.integers(2, 3000), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
@settings(deadline=None)
def test_means_keep_what_has_no_noise(count, slope, start):
    """A straight line stays where it is; what is drawn of a curve lies within it, and its end is that of the curve."""
    steps, values = means(Series(list(range(count)), [start + slope * k for k in range(count)]))
    assert values == pytest.approx(start + slope * steps, abs=1e-6 * (1 + abs(start) + abs(slope) * count))
    window = max(count // 100, 1)
    assert steps[-1] == pytest.approx(np.arange(count)[-window:].mean())


@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=900))
@settings(deadline=None, suppress_health_check=[HealthCheck.large_base_example])
def test_means_and_extremes_stay_within(values):
    for _, drawn in (means(curve(values)), extremes(curve(values))):
        assert min(values) - 1 <= drawn.min() <= drawn.max() <= max(values) + 1
    assert extremes(curve(values))[1].max() == max(values)
    assert extremes(curve(values))[1].min() == min(values)


@pytest.mark.parametrize(
    ("values", "expected"), [((1, 31), True), ((1, 29), False), ((0, 31), False), ((-1, 31), False), ((5e-9, 1), True)]
)
def test_axes_are_logarithmic_where_values_are_positive_and_far_apart(values, expected):
    group = Group("x", {"a": curve(values), "b": curve(values)})
    axes = axes_of(group)
    assert is_logarithmic(group) is expected
    assert axes.get_yscale() == ("log" if expected else "linear")
    assert about(group).startswith("x (logarithmic) from" if expected else "x from")


def test_axes_have_few_numbers_as_people_write_them():
    axes = axes_of(Group("x", {"x": Series([0, 60_000], [-2500.0, 8000.0])}))
    axes.figure.draw_without_rendering()
    texts = [[text.get_text() for text in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)]
    assert "20,000" in texts[0]
    assert {"−2,000", "0", "4,000"} <= set(texts[1])
    assert all(len(names) <= 8 for names in texts)
    assert [number(value) for value in (0.0, 1e-5, 1234567.0, -0.25)] == ["0", "1e−05", "1,234,567", "−0.25"]


def test_a_legend_names_each_curve_whatever_its_name():
    group = Group("x", {"_hidden": curve([1, 2]), "$\\frac{": curve([1, 2]), "y" * 90: curve([2, 3])})
    texts = [text.get_text() for text in axes_of(group).get_legend().get_texts()]
    assert texts == ["_hidden", "$\\frac{", "y" * 27 + "…"]
    assert axes_of(Group("x", {"a": curve([1, 2])})).get_legend() is None
    drawn = [(line.get_color(), line.get_linestyle()) for line in axes_of(_many(9)).lines]
    assert len(set(drawn)) == 9


def _many(count: int) -> Group:
    return Group("x", {f"{k}": curve([k + 1, k + 2]) for k in range(count)})


@pytest.mark.parametrize("name", ["$\\frac{$", "_", "\ud800", "\0\n\x1b", "能", "x" * 5000, "", "</svg>"])
def test_names_from_files_can_be_drawn(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(Group(name, {name: curve([1, 2]), name + "b": curve([2, 3])})).startswith(b"\x89PNG")


def test_pictures_are_for_light_and_dark_pages_and_the_same_each_time():
    group = Group("x", {"a": curve([1, 2, 4]), "b": curve([4, 3, 0])})
    looks = [decoded(png(group, look)) for look in (LIGHT, DARK, ON_WHITE)]
    assert [pixels.shape for pixels in looks] == [(324, 600, 4)] * 3
    assert [tuple(pixels[0, 0])[3] for pixels in looks] == [0, 0, 255]
    assert tuple(looks[2][0, 0]) == (255, 255, 255, 255)
    for pixels, look in zip(looks, (LIGHT, DARK, ON_WHITE), strict=True):
        for colour in look.lines[:2]:
            wanted = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
            near = np.abs(pixels[..., :3].astype(int) - wanted).max(-1) < 24
            assert (near & (pixels[..., 3] > 200)).sum() > 200
    assert png(group, DARK) == png(group, DARK)


def test_the_users_matplotlib_changes_nothing():
    import matplotlib as mpl

    group = Group("x", {"a": curve([1, 2])})
    plain = png(group)
    with mpl.rc_context({"font.size": 30, "axes.labelpad": 30, "xtick.direction": "in", "figure.dpi": 300}):
        assert png(group) == plain
        assert mpl.rcParams["font.size"] == 30


def test_pictures_are_small():
    noise = np.random.default_rng(0).lognormal(size=(3, 20_000))
    chart = chart_of(Group("x", {name: curve(values) for name, values in zip("abc", noise, strict=True)}))
    assert len(chart.light.source) + len(chart.dark.source) < 50_000
    assert chart.light.alt == about(Group("x", {name: curve(v) for name, v in zip("abc", noise, strict=True)}))


NUMBERS = st.floats() | st.floats(-1e-300, 1e-300) | st.integers() | st.sampled_from([1e100, -1e100, math.nan, 10**400])


@given(st.lists(st.fixed_dictionaries({"step": st.integers(), "energy_x": NUMBERS, "gradient": NUMBERS}), max_size=4))
@example([{"step": k, "energy_x": 0.0, "gradient": g} for k, g in ((0, 1.0), (0, 1e-300), (1, 1.0))])
@settings(max_examples=30, deadline=None)
def test_any_metrics_give_pictures_or_none(lines):
    for group in Metrics(lines).groups():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert decoded(png(group))[..., 3].min() == 255
        assert "nan" not in about(group)
