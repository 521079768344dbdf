"""The faults that `make mutants` makes are still ones of today's code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.__main__ import Mutant, mutants

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mutant", list(mutants()), ids=lambda mutant: mutant.about)
def test_a_fault_can_be_made_and_its_tests_are_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old) == 1
    assert mutant.old != mutant.new
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text(encoding="utf-8")
