"""Altering the good history, and demanding that exactly the right promises are seen broken."""

from collections.abc import Callable

import pytest

from tests.prove.records import Records
from tests.prove.validators import PromiseVerdict, report, validate
from tests.prove.validators.reporting import VIOLATIONS_SHOWN
from tests.unit.prove.good_history import good_records

Alteration = Callable[[Records], None]


class Altering:
    """Collects alterations, each with what is to be said of it."""

    def __init__(self, promise: str) -> None:
        self._promise = promise
        self.cases: list[object] = []

    def breaks(self, what: str, *also: str) -> Callable[[Alteration], Alteration]:
        """The alteration breaks the promise in these words, and the promises `also`, no other."""

        def collect(alteration: Alteration) -> Alteration:
            broken = {self._promise, *also}
            case = pytest.param(alteration, self._promise, broken, what, id=alteration.__name__)
            self.cases.append(case)
            return alteration

        return collect

    def breaks_at_least(self, what: str) -> Callable[[Alteration], Alteration]:
        """The alteration breaks the promise in these words, and whatever else follows from it."""

        def collect(alteration: Alteration) -> Alteration:
            case = pytest.param(alteration, self._promise, None, what, id=alteration.__name__)
            self.cases.append(case)
            return alteration

        return collect

    def keeps(self, alteration: Alteration) -> Alteration:
        """The alteration breaks nothing."""
        self.cases.append(
            pytest.param(alteration, self._promise, set(), "", id=alteration.__name__)
        )
        return alteration


def judged(alteration: Alteration) -> dict[str, PromiseVerdict]:
    """The verdicts on the altered history, by promise."""
    records = good_records()
    alteration(records)
    return {verdict.promise: verdict for verdict in validate(records)}


def assert_judged(alteration: Alteration, promise: str, broken: set[str] | None, what: str) -> None:
    """Exactly these promises are broken (None: any), and this is said of the one that matters."""
    verdicts = judged(alteration)
    told = report(list(verdicts.values()))
    assert broken in (None, {name for name, each in verdicts.items() if each.violations}), told
    said = [violation.what for violation in verdicts[promise].violations]
    assert broken == set() or any(what in each for each in said), told
    assert not said or what in told or len(said) > VIOLATIONS_SHOWN
