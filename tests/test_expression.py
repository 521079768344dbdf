"""The language of `compose`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebmctl.compose.expression import And, Concept, Expression, Not, Or, Weighted, concepts, parse, parse_terms
from ebmctl.errors import UsageError

A, B, C = Concept("a"), Concept("b"), Concept("c")


@pytest.mark.parametrize(
    ("text", "expected", "normal"),
    [
        ("young", Concept("young"), "young"),
        ("identity=cube", Concept("identity", "cube"), "identity=cube"),
        ("not:a", Not(A), "~a"),
        ("~ ~a", Not(Not(A)), "~~a"),
        ("2*a", Weighted(2, A), "2*a"),
        ("2 * 1.5 * a", Weighted(3, A), "3*a"),
        ("~2*a", Not(Weighted(2, A)), "~2*a"),
        (".5*~a", Weighted(0.5, Not(A)), "0.5*~a"),
        ("a|b & c", Or((A, And((B, C)))), "a | b & c"),
        ("(a|b)&c", And((Or((A, B)), C)), "(a | b) & c"),
        ("((a & (b & c)))", And((A, B, C)), "a & b & c"),
        ("3*(a | b)", Weighted(3, Or((A, B))), "3*(a | b)"),
        ("young & ~smiling & (female | wavy_hair)", None, "young & ~smiling & (female | wavy_hair)"),
        ("3d & 2*3d", And((Concept("3d"), Weighted(2, Concept("3d")))), "3d & 2*3d"),
    ],
)
def test_normal_form(text: str, expected: Expression | None, normal: str) -> None:
    found = parse(text)
    assert expected is None or found == expected
    assert str(found) == normal


def test_terms_are_joined_by_and() -> None:
    assert str(parse_terms(["young", "a|b", "~c & a"])) == "young & (a | b) & ~c & a"
    assert [str(c) for c in concepts(parse_terms(["a|b=x", "2*~a"]))] == ["a", "b=x", "a"]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", 1, "expected a concept"),
        ("young & ", 9, "expected a concept"),
        ("a b", 3, "expected & or |"),
        ("(a | b", 7, "expected )"),
        ("a & $b", 5, "not expected"),
        ("a=", 3, "expected a value"),
        ("0*a", 1, "a weight must be above 0"),
        ("-1*a", 1, "not expected"),
        ("~" * 60 + "a", 52, "more than 50 levels"),
    ],
)
def test_an_error_points_to_its_place(text: str, place: int, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    shown, pointer = caught.value.detail
    assert str(caught.value).startswith(f"at character {place} of the expression: {what}")
    assert shown == text
    assert pointer.index("^") == place - 1


def test_a_long_expression_is_refused() -> None:
    with pytest.raises(UsageError, match="the limit is"):
        parse("a&" * 2000)


NAMES = st.from_regex(r"[a-z_][a-z0-9_.-]{0,8}", fullmatch=True).filter(lambda name: name != "not")
LEAVES = st.builds(Concept, NAMES, st.none() | NAMES)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(Weighted, st.floats(1e-3, 1e3), inner.filter(lambda e: not isinstance(e, Weighted))),
        st.lists(inner.filter(lambda e: not isinstance(e, And)), min_size=2, max_size=3).map(lambda t: And(tuple(t))),
        st.lists(inner.filter(lambda e: not isinstance(e, Or)), min_size=2, max_size=3).map(lambda t: Or(tuple(t))),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_the_normal_form_is_read_back(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@given(st.text(alphabet=st.sampled_from("ab12.*~|&()= not:é\n\t$"), max_size=30) | st.text(max_size=30))
def test_any_text_is_an_expression_or_a_usage_error(text: str) -> None:
    try:
        found = parse(text)
    except UsageError:
        return
    assert parse(str(found)) == found
