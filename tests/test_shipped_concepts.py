"""The concepts that ship: small enough, and what they compose is found again by classifiers that ship too."""

from __future__ import annotations

import pytest

from ebmctl.compose.composition import Algebra, Composition, vocabulary
from ebmctl.compose.expression import concepts, parse
from ebmctl.core.noise import seeded
from ebmctl.evaluation.composition import prepare
from ebmctl.models.sampling import draw
from ebmctl.models.zoo import entry_folder, zoo

LARGEST = 1_500_000  # bytes
SHIPPED = {
    "faces": {"young", "female", "smiling", "wavy_hair"},
    "objects": {"identity", "size", "position", "rotation"},
}


def test_they_are_there_and_small() -> None:
    bundled = [entry for entry in zoo().values() if entry.concept and entry.bundled]
    found = {family: {entry.concept for entry in bundled if entry.family == family} for family in SHIPPED}
    assert found == SHIPPED
    for entry in bundled:
        assert sum(path.stat().st_size for path in entry_folder(entry).iterdir()) <= LARGEST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "text", "least"),
    [
        ("faces", "young & female & smiling", 0.8),  # of 1,000: 0.975
        ("faces", "~young & wavy_hair", 0.7),
        ("objects", "position=left", 0.7),
    ],
)
def test_what_they_compose_is_found_again(family: str, text: str, least: float) -> None:
    expression = parse(text)
    names = [concept.name for concept in concepts(expression)]
    composed = Composition(expression, vocabulary(family, {}, names), Algebra())
    check = prepare(composed)
    *_, samples = draw(composed, composed.first.recipe.sampling_plan(), 16, seeded(1))
    found = check(samples)
    assert found.joint.value >= least
    assert found.diversity > 0.8
    contrast = found.look["contrast"]
    assert 0.5 < contrast.composed / contrast.data < 2
