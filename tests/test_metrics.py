"""Reading a run's metrics.jsonl: what is in it, what is damaged, and which series belong together."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ebmctl.config.schema import EVAL_DISTANCE, EVAL_SCORE
from ebmctl.errors import EbmctlError
from ebmctl.models.metrics import LARGEST, Metrics, Series, kept_bytes
from ebmctl.training.folder import RunFolder

STEP, EVENT = '{"step": 1, "a": 2}', '{"event": "rollback", "attempt": 1, "step": 7}'
WHOLE = [json.loads(STEP), json.loads(EVENT)]


def read(tmp_path, data: bytes) -> Metrics:
    (tmp_path / "metrics.jsonl").write_bytes(data)
    return Metrics.read(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"step": 3, "ener',  # cut short
        b'{"step": 3}{"step": 4}',
        b"\xff\xfe\0",
        b"\0" * 4096,  # as a file system may leave it after a power failure
        b"[" * 100_000,
        b"1" * 5000,
        b'{"step": ' + b"1" * 5000 + b"}",
        b"[1]",
        b"null",
        b'{"a": 1}',  # of which step?
        b'{"step": true}',
        b'{"step": 1e400}',
        b'{"event": "rollback"}',  # of which attempt?
        b"",
    ],
)
def test_a_damaged_line_takes_no_other_with_it(tmp_path, damaged):
    for lines in ([damaged, STEP, EVENT], [STEP, damaged, EVENT], [STEP, EVENT, damaged]):
        data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
        for end in (b"", b"\n", b"\r\n"):
            found = read(tmp_path, data + end)
            assert list(found.lines) == WHOLE
            assert (found.steps, found.events) == ([WHOLE[0]], [WHOLE[1]])


OBJECTS = st.dictionaries(
    st.text(max_size=5), st.none() | st.floats() | st.integers() | st.text(max_size=5), max_size=3
)
LINES = st.one_of(
    st.binary(max_size=30).map(lambda data: data.replace(b"\n", b" ")),
    st.tuples(OBJECTS, st.integers(-9, 2**70)).map(lambda pair: json.dumps({**pair[0], "step": pair[1]}).encode()),
    st.integers(0, 9).map(lambda attempt: json.dumps({"event": "x", "attempt": attempt}).encode()),
)


def is_whole(line: bytes) -> bool:
    """Whether a line is one that a run writes, by other means than the reader's."""
    try:
        values = json.loads(line.decode())
    except ValueError:
        return False
    return isinstance(values, dict) and type(values.get("attempt" if "event" in values else "step")) is int


@given(st.lists(LINES, max_size=6), st.binary(max_size=20))
@example([STEP.encode()], b"\n\r")
@example([b'{"step":\r1}'], b"")
def test_any_bytes_are_read_and_whole_lines_kept(tmp_path_factory, lines, rest):
    data = b"\n".join([*lines, rest])
    found = read(tmp_path_factory.getbasetemp(), data)
    expected = [json.loads(line) for line in data.split(b"\n") if is_whole(line)]
    assert repr(found.lines) == repr(expected)  # a NaN is not itself
    for group in found.groups():
        for series in group.series.values():
            assert len(series.steps) == len(series.values) >= 2
            assert all(map(math.isfinite, series.values))
            assert series.steps == sorted(series.steps)


@given(st.lists(LINES, max_size=6), st.integers(0, 9))
def test_what_is_kept_is_what_lies_before_the_first_line_that_does_not_belong(lines, last):
    data = b"\n".join(lines)

    def belongs(values) -> bool:
        return values.get("attempt", values.get("step")) <= last

    kept = data[: kept_bytes(data, belongs)]
    before = []
    for line in lines:
        if is_whole(line) and not belongs(json.loads(line)):
            break
        before.append(line)
    while before and not is_whole(before[-1]):
        before.pop()
    assert kept.removesuffix(b"\n") == b"\n".join(before)


def test_a_run_goes_on_after_whole_lines(tmp_path):
    """Cut back, a file keeps what follows a damaged line, and ends with a line's end."""
    from tests.test_run import finish, trainer

    made = trainer()
    folder = RunFolder.create(tmp_path / "run", made.recipe)
    finish(made, folder)
    lines = folder.metrics.read_text().splitlines()
    damaged = [lines[0], '{"step": 2, "en', *lines[2:]]
    folder.metrics.write_text("\n".join([*damaged, '{"step": 99}']))
    folder.load_checkpoint(trainer())
    assert folder.metrics.read_text() == "\n".join(damaged) + "\n"
    folder.metrics.write_text("\n".join(damaged))
    folder.load_checkpoint(trainer())
    assert folder.metrics.read_text() == "\n".join(damaged) + "\n"
    assert [line["step"] for line in folder.read_metrics().steps] == [1, 3, 4, 5, 6]


def test_a_file_that_is_not_there_or_none(tmp_path):
    assert Metrics.read(tmp_path / "metrics.jsonl") == Metrics([])
    with pytest.raises(EbmctlError, match=r"can't read .*: Is a directory"):
        Metrics.read(tmp_path)


def test_a_series_is_finite_and_in_order():
    values = [3, math.nan, math.inf, -math.inf, None, "4", True, [5], 10**400, 2 * LARGEST, 0.5]
    lines = [{"step": 20 - k, "x": value} for k, value in enumerate(values)]
    made = Metrics([*lines, {"step": 1}, {"step": 2, "event": "rollback", "attempt": 1, "x": 7}])
    assert made.series("x") == Series([10, 20], [0.5, 3.0])
    assert made.series("y") == Series([], [])


def test_groups():
    drawn = {
        "loss_new": 1, "gradient_kl": 1, "gradient_cd": 1, "gradient": 1, "energy_samples": 1, "energy_data": 1,
        "energy_difference": 1, EVAL_SCORE: 1, EVAL_DISTANCE: 1, "gradient_": 1, "gradient_all": 1, "_odd": 1,
    }  # fmt: skip
    never = {"phase": 1, "seconds": 1, "lr": 1, "buffer": 1, "loss_cd": 1, "energy_data_scales": [1], "note": "a"}
    lines = [{"step": 1, "once": 1}, *({"step": k, **never, **drawn} for k in (1, 2))]
    found = [(group.title, list(group.series)) for group in Metrics(lines).groups()]
    assert found == [
        ("Fréchet distance from held-out images, by the run's extractor", [EVAL_DISTANCE]),
        ("Inception score, by the run's extractor", [EVAL_SCORE]),
        ("energy difference, E(data) - E(samples)", ["energy_difference"]),
        ("mean energy", ["samples", "data"]),
        ("loss new", ["loss_new"]),
        (" odd", ["_odd"]),
        ("norm of the gradient", ["all", "gradient_", "gradient_all", "cd", "kl"]),
    ]
    assert Metrics([{"step": 3, "x": 1}, {"step": 3, "x": 2}]).groups() == []
