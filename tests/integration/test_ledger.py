"""The ledger of attempts, payloads and points in a real database: merged, whoever tells first."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries

from executions import ledger
from executions.attempts import AttemptNote, AttemptOutcome
from executions.ledger import DetailsNote, PointNote, note_attempts
from executions.models import ActivityDetails, Attempt, Point
from executions.recorded_rows import UnrecordedWriteError
from executions.recording import UnknownActivityError, changing
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)
FAILURE = {"type": "Oops", "message": "went wrong", "stack_trace": "File …"}


@pytest.fixture
def execution_id() -> str:
    with nobody_listening():
        return an_execution("a", "b")


def note(number: int = 1, activity_id: str = "a", **told: Any) -> AttemptNote:
    return AttemptNote(activity_id=activity_id, number=number, **told)


def tell(execution_id: str, *notes: AttemptNote) -> None:
    with changing(execution_id):
        note_attempts(execution_id, notes)


def outcomes(execution_id: str) -> dict[tuple[str, int], str]:
    rows = Attempt.objects.filter(execution_id=execution_id)
    return {(row.activity_id, row.number): row.outcome for row in rows}


def test_attempts_are_kept_when_others_follow(execution_id: str) -> None:
    tell(execution_id, note(1, started_at=NOW, worker_identity="one"))
    tell(execution_id, note(1, outcome=AttemptOutcome.FAILED, failure=FAILURE, ended_at=LATER))
    tell(execution_id, note(2, started_at=LATER, worker_identity="two"))
    tell(execution_id, note(1, "b"))
    assert outcomes(execution_id) == {("a", 1): "failed", ("a", 2): "running", ("b", 1): "running"}
    first = Attempt.objects.get(activity_id="a", number=1)
    assert (first.worker_identity, first.started_at, first.ended_at) == ("one", NOW, LATER)
    assert first.failure == FAILURE


def test_notes_of_one_telling_are_merged_in_order(execution_id: str) -> None:
    tell(
        execution_id,
        note(1, started_at=NOW),
        note(1, outcome=AttemptOutcome.TIMED_OUT),
        note(2, started_at=LATER),
        note(1, heartbeat_at=NOW, heartbeat_details=[{"value": 1}]),
    )
    assert outcomes(execution_id) == {("a", 1): "timed_out", ("a", 2): "running"}
    first = Attempt.objects.get(number=1)
    assert (first.heartbeat_at, first.heartbeat_details) == (NOW, [{"value": 1}])


def test_attempt_whose_end_nobody_saw_is_unknown_until_it_is_told(execution_id: str) -> None:
    tell(execution_id, note(1, started_at=NOW))
    tell(execution_id, note(2, started_at=LATER))
    assert outcomes(execution_id)["a", 1] == "unknown"
    tell(execution_id, note(1, outcome=AttemptOutcome.FAILED, failure=FAILURE))
    assert outcomes(execution_id)["a", 1] == "failed"


def test_telling_the_same_again_writes_nothing(
    execution_id: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    told = [note(1, started_at=NOW), note(2, started_at=LATER)]
    tell(execution_id, *told)
    before = list(Attempt.objects.order_by("pk").values())
    with changing(execution_id), django_assert_num_queries(1):
        note_attempts(execution_id, told)
    assert list(Attempt.objects.order_by("pk").values()) == before


def test_any_number_of_notes_costs_one_read_and_one_write(
    execution_id: str, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    many = [note(number, started_at=NOW) for number in range(1, 51)]
    with changing(execution_id), django_assert_num_queries(2):
        note_attempts(execution_id, many)
    with changing(execution_id), django_assert_num_queries(0):
        note_attempts(execution_id, [])
    assert Attempt.objects.count() == 50


def test_nothing_is_kept_of_a_change_that_fails(execution_id: str) -> None:
    def fail() -> None:
        with changing(execution_id) as change:
            note_attempts(execution_id, [note()])
            change.activity("unknown")

    with pytest.raises(UnknownActivityError):
        fail()
    assert not Attempt.objects.exists()


def test_ledger_makes_no_event(execution_id: str) -> None:
    with changing(execution_id) as change:
        head = change.execution.head
        ledger.note_attempts(execution_id, [note()])
        ledger.note_points(execution_id, [PointNote(engine_event_id=3, at=NOW, kind="signal")])
    with changing(execution_id) as change:
        assert change.execution.head == head


def test_details_are_kept_as_first_told_and_take_an_output(execution_id: str) -> None:
    told = DetailsNote(
        activity_id="a", engine_activity_id="1", task_queue="q", input=[{"value": 1}]
    )
    with changing(execution_id):
        ledger.note_details(execution_id, [told])
        ledger.note_details(execution_id, [DetailsNote(activity_id="a", engine_activity_id="2")])
        ledger.note_output(execution_id, "a", [{"value": 2}])
    details = ActivityDetails.objects.get()
    assert (details.engine_activity_id, details.task_queue) == ("1", "q")
    assert (details.input, details.output) == ([{"value": 1}], [{"value": 2}])


def test_points_are_kept_once(execution_id: str) -> None:
    assert ledger.newest_point(execution_id) == 0
    for _ in range(2):
        with changing(execution_id):
            ledger.note_points(
                execution_id,
                [
                    PointNote(engine_event_id=3, at=NOW, kind="signal", name="go"),
                    PointNote(engine_event_id=7, at=LATER, kind="cancel_requested"),
                ],
            )
    kinds = list(Point.objects.values_list("engine_event_id", "kind", "name"))
    assert kinds == [(3, "signal", "go"), (7, "cancel_requested", "")]
    assert ledger.newest_point(execution_id) == 7


def test_ledger_is_written_through_its_functions_alone(execution_id: str) -> None:
    tell(execution_id, note())
    with pytest.raises(UnrecordedWriteError):
        Attempt.objects.update(outcome="completed")
    with pytest.raises(UnrecordedWriteError):
        Attempt.objects.get().save()
