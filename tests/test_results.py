"""Results as types: their JSON and back, files of before, tables and cards, and that no file is a traceback."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebmctl.errors import EbmctlError
from ebmctl.evaluation.intervals import Interval
from ebmctl.evaluation.results import (
    CardRow,
    CompositionResult,
    Histograms,
    Judge,
    Metric,
    OutlierResult,
    OutlierRow,
    PixelStatistic,
    QualityResult,
    Result,
    read_result,
)
from tests.result_documents import BEFORE, COMPOSITION, OUTLIERS, PRINT, QUALITY, WHOLE


def file(folder: Path, document: object) -> Path:
    path = folder / "result.json"
    path.write_text(json.dumps(document))
    return path


def used(result: Result) -> None:
    """All that is done with a result."""
    for one in (result, result.public()):
        table = one.table()
        assert {len(row) for row in table.rows} <= {len(table.header)}
        assert all(isinstance(cell, str) for row in table.rows for cell in row)
        assert f"{one.heading}{one.note}"
    assert all(math.isfinite(row.value) for row in result.card_rows("digits"))


@pytest.mark.parametrize("kind", WHOLE)
def test_json_and_back(tmp_path, kind):
    result = read_result(file(tmp_path, WHOLE[kind]), "ab")
    assert result.kind == kind
    assert json.dumps(result.to_json(), indent=1) == json.dumps(WHOLE[kind], indent=1)
    assert read_result(file(tmp_path, result.to_json())) == result


def test_made_and_read(tmp_path):
    """What the commands make is what the reader makes of their JSON."""
    share = Interval(0.9, 0.8, 0.95)
    for made in (
        OutlierResult("a", "energy", (OutlierRow("b", share, share, share, share, 3, 4, PRINT),), PRINT, "m", "ab"),
        QualityResult({"fid": Metric(1.5, std=0.5, extractor="x", more={"k": 3})}, "m", "ab", 10, "a", "train", 0),
        QualityResult({}, n=10, figures=(), report="x.html"),
        CompositionResult(
            "a & b", {"a": "ab", "b": None}, 4, {"a": share, "b": share}, share, Judge("faces"), {"shared": False},
            look={"contrast": PixelStatistic(0.5, 0.25)},
            histogram=Histograms((1.0, 0.0), (0.5, 0.5)), reported={"rate": 0.5},
        ),
    ):  # fmt: skip
        used(made)
        assert read_result(file(tmp_path, made.to_json())) == made


@pytest.mark.parametrize("name", BEFORE)
def test_files_of_before(tmp_path, name):
    result = read_result(file(tmp_path, BEFORE[name]))
    used(result)
    assert read_result(file(tmp_path, result.to_json())) == result
    assert read_result(file(tmp_path, {**BEFORE[name], "since": {"then": [1]}})) == result


def test_tables(tmp_path):
    """As they were before results were types."""
    ood = read_result(file(tmp_path, OUTLIERS))
    high = "0.900 (0.800 to 0.950)"
    assert ood.table().header == ["in / out", "AUROC", "AUPR-in", "AUPR-out", "FPR@95", "images"]
    assert ood.table().rows == [
        ["digits / noise", high, high, high, high, "1,000 / 60"],
        ["digits / constant", "0.500 (0.250 to 0.750)", high, high, high, "1,000 / 60"],
        ["average", "0.700", "0.900", "0.900", "0.900", ""],
    ]
    assert ood.heading == "digits against other sets, score: energy"
    quality = read_result(file(tmp_path, QUALITY))
    images = "1,000 samples, 2,000 of digits train"
    assert quality.table().rows == [
        ["toy frechet-distance", "12.5", f"toy, {images}"],
        ["toy score", "2 ± 0.12", f"toy, {images}"],
        ["toy kernel-distance", "0 ± 0.5", f"toy, {images}"],
        ["toy precision", "0.75", f"toy, {images}"],
        ["log_z", "0.9 (0.8 to 0.95)", "temperature 2, effective 0.50, acceptance 0.75"],
        ["bits_per_dimension", "0.9 (0.8 to 0.95)", "temperature 1, 50 of digits test"],
        ["memorisation (pixel distance)", "0.1, held-out 0.125", "15 samples, 2,000 of digits train"],
    ]
    assert quality.heading == "1,000 images, seed 3"
    composition = read_result(file(tmp_path, COMPOSITION))
    assert composition.table().rows == [
        ["young", "0.900", "0.800 to 0.950", ""],
        ["~old", "0.500", "0.250 to 0.750", ""],
        ["all", "0.900", "0.800 to 0.950", ""],
        ["diversity", "0.938", "", "1.000"],
        ["sharpness", "0.125", "", "0.250"],
    ]
    alike = "1,000 images, judged by a classifier of faces; held-out data: "
    assert composition.note == f"{alike}the 1,234 images for which the expression holds"
    assert replace(composition, held_out=0).note == f"{alike}all images, as the expression holds for none"
    assert replace(composition, diversity=None).table().rows[3][1] == "none"


def test_card_rows(tmp_path):
    ood, quality, composition = (read_result(file(tmp_path, document)).card_rows("any") for document in WHOLE.values())
    note = "against noise, 95 % 0.800 to 0.950, score: energy"
    assert ood[0] == CardRow("outlier-detection", "digits", "AUROC", 0.9, note)
    assert len(ood) == 8
    note = "1,000 samples, extractor toy"
    assert quality[0] == CardRow(
        "unconditional-image-generation", "digits", "toy frechet-distance", 12.5, note, "train"
    )
    note = "all in young & ~old, 95 % 0.800 to 0.950, 1,000 samples"
    assert composition[2] == CardRow("conditional-image-generation", "faces", "Accuracy", 0.9, note)
    (old,) = read_result(file(tmp_path, BEFORE["a card's quality"])).card_rows("any")
    assert (old.dataset, old.split) == ("any", "test")


def test_paths_stay_at_home(tmp_path):
    folder, judge = "folder:/home/ada/secret", "/home/ada/judge"
    metric = Metric(1.0, extractor=judge, n=10, n_real=10, data=folder, split="train")
    quality = QualityResult({f"{judge} score": metric}, model=judge, data=folder)
    rows = tuple(OutlierRow(folder, *[Interval(0.5, 0.25, 0.75)] * 4) for _ in range(2))
    ood = OutlierResult(folder, "energy", rows, model=judge)
    composition = read_result(file(tmp_path, {**COMPOSITION, "classifier": {"dataset": folder}}))
    for result in (quality, ood, composition):
        assert "/home/ada" in str(result)
        assert "/home/ada" not in str(result.public())
        assert "/home/ada" not in str(result.card_rows("x"))
    assert quality.public().table().rows == [["judge score", "1", "judge, 10 samples, 10 of folder:DIR train"]]


def test_figures_are_finite():
    share = Interval(0.5, math.nan, 1.0)
    for make, words in (
        (lambda: QualityResult({"fid": Metric(math.inf)}), "fid.value is NaN or infinite"),
        (lambda: OutlierResult("a", "energy", (OutlierRow("b", share, share, share, share),)), "rows.auroc.low is NaN"),
        (lambda: OutlierResult("a", "energy", ()), "no out-of-distribution set"),
        (lambda: CompositionResult("a", {}, 4, {"a": share}, share, Judge("b")), "attributes.a.low is NaN or infinite"),
    ):
        with pytest.raises(EbmctlError, match=words):
            make()


def changed(document: dict, value: object, *keys: object) -> dict:
    made = deepcopy(document)
    part = made
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return made


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "does not contain a JSON object"),
        ({"a": 1}, "is not the JSON of `ebmctl ood`, `evaluate` or `compose --check`"),
        ({**OUTLIERS, "in": None}, "is not a complete result: in must be a string, not None"),
        (changed(OUTLIERS, math.nan, "results", 0, "auroc", "value"), "results.auroc.value must be a finite number"),
        (changed(OUTLIERS, {"value": 1.0, "low": 0.5}, "results", 0, "auroc"), "results.auroc.high is missing"),
        (changed(OUTLIERS, 10**400, "results", 0, "auroc", "low"), "results.auroc.low must be a finite number"),
        ({**OUTLIERS, "results": []}, "there is no out-of-distribution set"),
        (changed(QUALITY, "12", "metrics", "log_z", "value"), "metrics.log_z.value must be a number, not '12'"),
        (changed(QUALITY, [1], "metrics", "log_z", "levels"), "metrics.log_z.levels must be a string, not [1]"),
        ({**QUALITY, "n": 1.5}, "n must be an integer, not 1.5"),
        ({**COMPOSITION, "models": ["ab"]}, "models must be a table"),
        ({**COMPOSITION, "acceptance": math.inf}, "acceptance must be a finite number"),
        ({**COMPOSITION, "joint": "x" * 10**6}, "joint must be a table, not 'xxx"),
    ],
)  # fmt: skip
def test_what_is_no_result(tmp_path, document, words):
    path = file(tmp_path, document)
    with pytest.raises(EbmctlError) as error:
        read_result(path, "ab")
    line = str(error.value)
    assert line.startswith(str(path))
    assert words in line
    assert len(line) < 400


def test_other_weights(tmp_path):
    for document in WHOLE.values():
        path = file(tmp_path, document)
        assert read_result(path) == read_result(path, "ab")
        with pytest.raises(EbmctlError, match="of a model with other weights"):
            read_result(path, "0")


def test_reading_takes_no_torch():
    code = "import sys, ebmctl.evaluation.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


NAMES = st.text(max_size=8) | st.sampled_from(
    [*OUTLIERS, *OUTLIERS["results"][0], *QUALITY, *QUALITY["metrics"]["log_z"], *COMPOSITION, "/\0", "a/" + "b" * 300]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | NAMES | st.just(10**400) | st.just("/\ud800"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=20,
)


def places(value: object, *keys: object) -> list[tuple[object, ...]]:
    """Where there are values in a document, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([keys] if keys else []), *(place for key, part in items for place in places(part, *keys, key))]


PLACES = [(kind, place) for kind, document in WHOLE.items() for place in places(document)]
DAMAGED = st.builds(lambda where, value: changed(WHOLE[where[0]], value, *where[1]), st.sampled_from(PLACES), JSON)


@given(JSON | DAMAGED)
@settings(max_examples=400, deadline=None)
def test_no_json_is_a_traceback(tmp_path_factory, document):
    path = file(tmp_path_factory.getbasetemp(), document)
    try:
        result = read_result(path)
    except EbmctlError as error:
        assert str(error).startswith(str(path))
    else:
        used(result)
        assert read_result(file(path.parent, result.to_json())) == result
