"""Writing changes and hints into a real database: in any order, any number of times."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowHistory

from executions.models import Execution
from executions.recording import changing
from executions.statuses import ActivityStatus, ExecutionStatus
from executions.temporal.changes import (
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    ErrorDetails,
    RunClosed,
    RunStarted,
)
from executions.temporal.hints import ActivityHint, AttemptBegan, AttemptFailed, ProgressMade
from executions.temporal.history import HistoryFold
from executions.temporal.mirror import (
    CHANGES_PER_EVENT,
    not_mirrored_to_the_end,
    record_hints,
    record_history,
)
from executions.temporal.names import fitted
from tests.truth import (
    assert_log_is_whole,
    assert_patches_tell_the_truth,
    assert_same_document,
    document_of_rows,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(seconds=9)
ERROR = ErrorDetails("Oops", "went wrong")
START = RunStarted("w", "W", "r", NOW)
HISTORIES = Path(__file__).parents[1] / "histories"
# Of an activity that history does not see end, hints know more than history.
WHOLE = ["compensating", "failing", "fan-out", "pipeline", "repeated-ids", "two-chains"]


def scheduled(activity_id: str = "a") -> ActivityScheduled:
    return ActivityScheduled(activity_id, "do", "activity", ())


def began(attempt: int = 1, activity_id: str = "a") -> AttemptBegan:
    return AttemptBegan(**about(activity_id, attempt), started_at=NOW)


def failed(attempt: int = 1, activity_id: str = "a") -> AttemptFailed:
    return AttemptFailed(**about(activity_id, attempt), error=ERROR)


def progress(share: float, attempt: int = 1, activity_id: str = "a") -> ProgressMade:
    return ProgressMade(**about(activity_id, attempt), progress=share)


def about(activity_id: str, attempt: int) -> dict[str, Any]:
    return {
        "workflow_id": "w",
        "run_id": "r",
        "activity_id": activity_id,
        "scheduled_at": NOW,
        "attempt": attempt,
    }


@pytest.fixture
def run() -> str:
    """An execution with one activity, as history told of it so far."""
    execution_id = str(uuid4())
    record_history(execution_id, [START, scheduled()])
    return execution_id


def activity_of(execution_id: str) -> dict[str, Any]:
    activity: dict[str, Any] = document_of_rows(execution_id)["activities"][0]
    return activity


def test_run_starts_running_with_temporals_time(run: str) -> None:
    document = document_of_rows(run)
    assert document["status"] == "running"
    assert document["started_at"] == document["created_at"] == "2026-01-02T03:04:05.000000Z"
    assert (document["workflow_id"], document["workflow_type"]) == ("w", "W")
    assert document["run_id"] == "r"
    assert activity_of(run)["status"] == "pending"


def test_attempts_are_told_status_by_status(run: str) -> None:
    with assert_patches_tell_the_truth(run) as told:
        record_hints(run, [began(), progress(0.5), failed(), began(2)])
    statuses = [op["value"] for op in told.operations if op["path"].endswith("/status")]
    assert statuses == ["running", "retrying", "running"]
    assert len(told.events) == 3
    activity = activity_of(run)
    assert activity["retry_count"] == 1
    assert (activity["error_details"], activity["progress"]) == (None, None)


def test_retrying_attempt_keeps_its_error_and_no_progress(run: str) -> None:
    with assert_patches_tell_the_truth(run):
        record_hints(run, [began(), progress(0.5)])
        assert activity_of(run)["progress"] == 0.5
        record_hints(run, [failed()])
    activity = activity_of(run)
    assert activity["error_details"] == {"type": "Oops", "message": "went wrong"}
    assert activity["progress"] is None


@pytest.mark.parametrize(
    "late",
    [began(), began(2), failed(), failed(2), progress(0.5, 1), progress(0.5, 2), progress(0.5, 3)],
)
def test_hint_that_is_no_news_changes_nothing(run: str, late: ActivityHint) -> None:
    record_hints(run, [began(2), failed(2)])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_hints(run, [late])


def test_hints_after_the_end_change_nothing(run: str) -> None:
    closed = ActivityClosed("a", ActivityStatus.FAILED, LATER, ERROR)
    record_history(run, [closed])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_hints(run, [began(9), failed(9), progress(0.5, 9)])
    record_history(run, [RunClosed(ExecutionStatus.FAILED, LATER, ERROR)])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_hints(run, [began(9, "b"), began(9)])


def test_hint_about_an_unknown_activity_is_ignored(run: str) -> None:
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_hints(run, [began(activity_id="never scheduled")])


def test_history_wins_over_a_hint_of_retrying(run: str) -> None:
    record_hints(run, [began(), failed()])
    with assert_patches_tell_the_truth(run):
        started = ActivityStarted("a", 1, NOW)
        record_history(run, [started, ActivityClosed("a", ActivityStatus.FAILED, LATER, ERROR)])
    assert activity_of(run)["status"] == "failed"


def test_attempts_that_no_hint_told_are_counted(run: str) -> None:
    with assert_patches_tell_the_truth(run) as told:
        started = ActivityStarted("a", 4, NOW)
        record_history(run, [started, ActivityClosed("a", ActivityStatus.COMPLETED, LATER)])
    assert len(told.events) == 1
    assert activity_of(run)["retry_count"] == 3
    assert activity_of(run)["started_at"] == "2026-01-02T03:04:05.000000Z"


def test_attempt_that_only_history_knows_is_running(run: str) -> None:
    with assert_patches_tell_the_truth(run):
        record_history(run, [ActivityStarted("a", 1, NOW)])
    assert activity_of(run)["status"] == "running"


def test_large_batch_becomes_several_events() -> None:
    execution_id = str(uuid4())
    many: list[Change] = [scheduled(str(n)) for n in range(CHANGES_PER_EVENT + 100)]
    with assert_patches_tell_the_truth(execution_id) as told:
        record_history(execution_id, [START, *many])
    assert [len(message.get("ops", ())) for message in told.messages] == [0, 499, 101]


def test_closed_execution_takes_no_more_history(run: str) -> None:
    record_history(run, [RunClosed(ExecutionStatus.TERMINATED, LATER, ERROR)])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_history(run, [START, scheduled(), scheduled("b"), ActivityStarted("a", 2, NOW)])


def test_unfinished_and_missing_executions_are_told_apart_from_finished_ones(run: str) -> None:
    finished = str(uuid4())
    record_history(finished, [START, RunClosed(ExecutionStatus.COMPLETED, LATER)])
    assert not_mirrored_to_the_end([run, finished, "missing"]) == {run, "missing"}
    assert not_mirrored_to_the_end([]) == set()
    many = [f"missing-{n}" for n in range(1_200)]
    assert not_mirrored_to_the_end([*many, finished]) == set(many)


def test_unstorable_text_is_stored_as_far_as_it_can_be(run: str) -> None:
    odd = ErrorDetails("a\x00b" * 1_000, "nul \x00, lone \ud800, \U0001f600" * 1_000)
    with assert_patches_tell_the_truth(run):
        record_history(run, [ActivityClosed("a", ActivityStatus.FAILED, LATER, shortened(odd))])
    details = activity_of(run)["error_details"]
    assert details["message"].startswith("nul \ufffd, lone \ufffd, \U0001f600")
    assert details["message"].endswith("…")


def shortened(error: ErrorDetails) -> ErrorDetails:
    """As `failures` hands errors on: the type fits, the message is the document's to cut."""
    return ErrorDetails(fitted(error.type or ""), error.message)


def test_execution_changed_by_someone_else_meanwhile_is_respected(run: str) -> None:
    with changing(run) as change:
        change.activity("a").status = ActivityStatus.COMPLETED
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_history(run, [ActivityClosed("a", ActivityStatus.FAILED, LATER, ERROR)])


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(WHOLE), data=st.data())
def test_services_and_hints_in_any_order_end_with_what_history_says(
    name: str, data: st.DataObject
) -> None:
    events = WorkflowHistory.from_json(name, (HISTORIES / f"{name}.json").read_text()).events
    changes = HistoryFold(name, "r").feed(events)
    attempts = {told.activity_id: told.attempt for told in changes if type(told) is ActivityStarted}
    execution_id = str(uuid4())
    folds = [HistoryFold(name, "r"), HistoryFold(name, "r")]
    read = [0, 0]

    def read_on(which: int, begin: int, end: int) -> None:
        read[which] = max(read[which], end)
        record_history(execution_id, folds[which].feed(events[min(begin, end) : end]))

    for which in data.draw(st.lists(st.integers(0, 1), max_size=10)):
        begin, end = data.draw(st.tuples(st.integers(0, read[which]), st.integers(1, len(events))))
        read_on(which, begin, end)
        record_hints(execution_id, data.draw(st.lists(hints_of(attempts), max_size=6)))
    for which in (0, 1):
        read_on(which, read[which], len(events))
    assert_log_is_whole(execution_id)
    fresh_id = str(uuid4())
    record_history(fresh_id, changes)
    mirrored = document_of_rows(execution_id)
    assert_same_document(mirrored | {"execution_id": fresh_id}, document_of_rows(fresh_id))
    head = Execution.objects.get(pk=fresh_id).head
    record_history(fresh_id, HistoryFold(name, "r").feed(events))
    assert Execution.objects.get(pk=fresh_id).head == head


def hints_of(attempts: dict[str, int]) -> st.SearchStrategy[ActivityHint]:
    """Hints about attempts that there were."""
    return st.sampled_from(sorted(attempts)).flatmap(
        lambda name: st.integers(1, attempts[name]).flatmap(
            lambda attempt: st.sampled_from(
                [
                    began(attempt, name),
                    progress(0.3, attempt, name),
                    *([failed(attempt, name)] if attempt < attempts[name] else []),
                ]
            )
        )
    )
