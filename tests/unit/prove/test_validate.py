"""The good history passes; what is not covered does not; reports are readable and bounded."""

from tests.prove.records import Access, Records
from tests.prove.validators import PromiseVerdict, Violation, report, validate
from tests.prove.validators.access import Rights
from tests.prove.validators.texts import TextFinder
from tests.unit.prove.good_history import good_records


def test_good_history_keeps_every_promise() -> None:
    verdicts = validate(good_records())
    assert [verdict.promise for verdict in verdicts] == [f"P{n}" for n in range(1, 8)]
    told = report(verdicts)
    assert all(verdict.passed for verdict in verdicts), told
    assert told.count(" held ") == 7
    assert "1 rolled-back writes" in told
    assert "commit to client p99, ms 100" in told


def test_empty_records_pass_nothing() -> None:
    nothing = Records(seed=1, heartbeat_seconds=2.0, began_at=0.0, settled_at=1.0)
    verdicts = validate(nothing)
    assert not any(verdict.passed or verdict.violations for verdict in verdicts)
    told = report(verdicts)
    assert told.count("NOT COVERED") == 7
    assert "P7: nothing was judged of: frames, refusals, revocations" in told


def test_report_is_bounded_and_shows_the_history() -> None:
    verdict = PromiseVerdict("P1", "complete", needed=())
    verdict.violations = [
        Violation(
            "w" * 1_000, client="c-1", connection="d" * 10, frames=("f" * 1_000,) * 99, log=("g",)
        )
    ] * 99
    told = report([verdict])
    assert "P1  complete       BROKEN 99" in told
    assert "client c-1\n" in told
    assert "connection dddddddddd\n" in told
    assert "event log\n      g\n" in told
    assert told.endswith("P1: … and 94 more")
    assert len(told) < 25_000


def test_given_texts_are_found_as_whole_words_only() -> None:
    finder = TextFinder(["w-1", "w-10", 'w-"', "w-ä", ""])
    found = list(finder.find('w-1 w-10 w-100 aw-1 "w-\\"" w-ä w-1x [w-1'))
    assert found == ["w-1", "w-10", 'w-"', "w-ä", "w-1"]
    assert list(TextFinder([]).find("w-1")) == []
    assert list(TextFinder(["a", "b"]).find("b a c")) == ["b", "a"]
    assert list(TextFinder(["w-1"]).find("w-1")) == ["w-1"]


def test_rights_are_those_of_the_moment() -> None:
    rights = Rights(
        [
            Access(5.0, "a", may_view=False, execution_ids=frozenset({"x"})),
            Access(1.0, "a", may_view=True),
            Access(2.0, "a", may_view=True),
            Access(7.0, "a", may_view=True),
        ]
    )
    assert rights.spans("a", "x") == [(1.0, 5.0), (7.0, float("inf"))]
    assert rights.spans("a", "y") == [(1.0, float("inf"))]
    assert rights.spans("b", "x") == []
    assert [rights.may_view("a", "x", at) for at in (0, 1, 4.9, 5, 7)] == [
        False,
        True,
        True,
        False,
        True,
    ]
    assert rights.may_view_within("a", "x", 4.0, 6.0)
    assert not rights.may_view_within("a", "x", 5.0, 6.9)
    assert rights.may_not_view_within("a", "x", 4.0, 6.0)
    assert not rights.may_not_view_within("a", "x", 2.0, 4.0)
    assert rights.last_change("a", 6.0) == 5.0
    assert rights.last_change("a", 0.5) == float("-inf")
