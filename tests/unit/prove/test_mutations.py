"""Every mutant finds its text in the tree, and a stale one says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.prove.mutations import MUTANTS, ROOT, Mutant, StaleMutantError


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_mutants_text_is_there_once_and_what_replaces_it_is_python(mutant: Mutant) -> None:
    mutated = mutant.source(ROOT)
    assert mutated != (ROOT / mutant.path).read_text()
    if mutant.path.endswith(".py"):
        compile(mutated, mutant.path, "exec")
    assert not mutant.test or (ROOT / mutant.test).is_file()


def test_every_promise_is_broken_by_some_mutant() -> None:
    assert {promise for mutant in MUTANTS for promise in mutant.promises} == {
        f"P{number}" for number in range(1, 8)
    }
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize(("text", "count"), [("a", 2), ("x", 0)])
def test_text_that_is_not_there_exactly_once_is_stale(
    tmp_path: Path, text: str, count: int
) -> None:
    (tmp_path / "module.py").write_text("a = a\n")
    mutant = replace(MUTANTS[0], path="module.py", text=text)
    with pytest.raises(StaleMutantError, match=f"its text is {count} times in module.py"):
        mutant.source(tmp_path)
