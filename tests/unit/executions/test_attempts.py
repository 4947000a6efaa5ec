"""What is known of an attempt once one more source has told of it."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from executions.attempts import AttemptNote, AttemptOutcome, merged, superseded

EARLY = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATE = EARLY + timedelta(seconds=1)
BLANK = AttemptNote(activity_id="a", number=1)

# Each field that is filled in or replaced by itself: a first value, and another.
FIELDS: dict[str, tuple[Any, Any]] = {
    "worker_identity": ("one", "other"),
    "scheduled_at": (EARLY, LATE),
    "started_at": (EARLY, LATE),
    "ended_at": (EARLY, LATE),
    "failure": ({"message": "one"}, {"message": "other"}),
    "next_attempt_at": (EARLY, LATE),
}
ENDS = [
    AttemptOutcome.COMPLETED,
    AttemptOutcome.FAILED,
    AttemptOutcome.TIMED_OUT,
    AttemptOutcome.CANCELLED,
]
OPEN = [AttemptOutcome.RUNNING, AttemptOutcome.UNKNOWN]


def note(**told: Any) -> AttemptNote:
    return replace(BLANK, **told)


def test_every_field_of_a_note_is_in_one_of_these_tests() -> None:
    others = {"activity_id", "number", "outcome", "is_true", "heartbeat_at", "heartbeat_details"}
    assert {field.name for field in fields(AttemptNote)} == others | set(FIELDS)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("is_true", [False, True])
def test_what_was_not_known_is_filled_in(name: str, is_true: bool) -> None:
    first, _ = FIELDS[name]
    told = merged(BLANK, note(**{name: first}, is_true=is_true))
    assert told == note(**{name: first})


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_known_stays_unless_the_truth_is_told(name: str) -> None:
    first, other = FIELDS[name]
    known = note(**{name: first})
    assert merged(known, note(**{name: other})) == known
    assert merged(known, note(**{name: other}, is_true=True)) == note(**{name: other})


@pytest.mark.parametrize("name", FIELDS)
def test_what_the_truth_does_not_tell_stays(name: str) -> None:
    known = note(**{name: FIELDS[name][0]})
    assert merged(known, note(is_true=True)) == known


def test_truth_is_no_property_of_what_is_known() -> None:
    assert not merged(BLANK, note(is_true=True)).is_true
    assert merged(note(is_true=True), BLANK).is_true


@pytest.mark.parametrize(
    ("known_at", "told_at", "stands"),
    [
        (None, None, "known"),
        (None, EARLY, "told"),
        (EARLY, None, "known"),
        (EARLY, LATE, "told"),
        (EARLY, EARLY, "known"),
        (LATE, EARLY, "known"),
    ],
)
@pytest.mark.parametrize("is_true", [False, True])
def test_newest_heartbeat_stands_with_its_details(
    known_at: datetime | None, told_at: datetime | None, stands: str, is_true: bool
) -> None:
    known = note(heartbeat_at=known_at, heartbeat_details=[{"value": "known"}])
    told = note(heartbeat_at=told_at, heartbeat_details=[{"value": "told"}], is_true=is_true)
    result = merged(known, told)
    assert result.heartbeat_details == [{"value": stands}]
    assert result.heartbeat_at == (told_at if stands == "told" else known_at)


def test_newer_heartbeat_without_details_has_none() -> None:
    known = note(heartbeat_at=EARLY, heartbeat_details=[{"value": 1}])
    assert merged(known, note(heartbeat_at=LATE)) == note(heartbeat_at=LATE)


@pytest.mark.parametrize("known", OPEN)
@pytest.mark.parametrize("told", ENDS)
@pytest.mark.parametrize("is_true", [False, True])
def test_first_known_end_is_taken_from_anyone(
    known: AttemptOutcome, told: AttemptOutcome, is_true: bool
) -> None:
    assert merged(note(outcome=known), note(outcome=told, is_true=is_true)).outcome is told


@pytest.mark.parametrize("known", ENDS)
@pytest.mark.parametrize("told", ENDS)
def test_known_end_is_replaced_by_the_truth_alone(
    known: AttemptOutcome, told: AttemptOutcome
) -> None:
    assert merged(note(outcome=known), note(outcome=told)).outcome is known
    assert merged(note(outcome=known), note(outcome=told, is_true=True)).outcome is told


@pytest.mark.parametrize("known", [*OPEN, *ENDS])
@pytest.mark.parametrize("told", OPEN)
@pytest.mark.parametrize("is_true", [False, True])
def test_what_has_no_known_end_changes_no_outcome_but_that_it_runs(
    known: AttemptOutcome, told: AttemptOutcome, is_true: bool
) -> None:
    ends_unseen = known is AttemptOutcome.RUNNING and told is AttemptOutcome.UNKNOWN
    outcome = AttemptOutcome.UNKNOWN if ends_unseen else known
    assert merged(note(outcome=known), note(outcome=told, is_true=is_true)).outcome is outcome


def test_attempt_that_was_running_when_a_later_one_began_has_ended_unseen() -> None:
    running = note(started_at=EARLY)
    assert superseded(running) == note(started_at=EARLY, outcome=AttemptOutcome.UNKNOWN)


@pytest.mark.parametrize("outcome", [AttemptOutcome.UNKNOWN, *ENDS])
def test_attempt_that_has_ended_stays_when_a_later_one_begins(outcome: AttemptOutcome) -> None:
    assert superseded(note(outcome=outcome)) == note(outcome=outcome)


def test_known_ends_are_those_that_someone_saw() -> None:
    assert [outcome for outcome in AttemptOutcome if outcome.is_known_end] == ENDS
