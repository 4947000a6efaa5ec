"""Recording hints and descriptions: what is no news, too early or too late."""

from dataclasses import replace
from datetime import timedelta

import pytest

from executions.attempts import AttemptNote, AttemptOutcome
from executions.document import rfc3339
from executions.models import Attempt
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from executions.temporal.history.changes import (
    ActivityCancelRequested,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    RunClosed,
)
from executions.temporal.live.hints import ActivityHint
from executions.temporal.live.precedence import Standing
from executions.temporal.mirroring.histories import record_history
from executions.temporal.mirroring.live_states import record_descriptions, record_hints
from tests.integration.telling import (
    ERROR,
    LATER,
    NOW,
    a_run,
    activity_of,
    began,
    description,
    failed,
    progress,
    scheduled,
)
from tests.truth import assert_patches_tell_the_truth, document_of_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def run() -> str:
    return a_run()


def test_attempts_are_told_status_by_status(run: str) -> None:
    with assert_patches_tell_the_truth(run) as told:
        record_hints(run, [began(), progress(0.5), failed(), began(2)])
    statuses = [op["value"] for op in told.operations if op["path"].endswith("/status")]
    assert statuses == ["running", "retrying", "running"]
    assert len(told.events) == 3
    activity = activity_of(run)
    assert activity["retry_count"] == 1
    assert activity["error_details"] == {"type": "Oops", "message": "went wrong"}
    assert (activity["next_attempt_at"], activity["progress"]) == (None, None)


def test_retrying_attempt_keeps_its_error_and_no_progress(run: str) -> None:
    with assert_patches_tell_the_truth(run):
        record_hints(run, [began(), progress(0.5)])
        assert activity_of(run)["progress"] == 0.5
        record_hints(run, [failed()])
    activity = activity_of(run)
    assert activity["error_details"] == {"type": "Oops", "message": "went wrong"}
    assert activity["next_attempt_at"] == "2026-01-02T03:04:14.000000Z"
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


def test_hint_that_comes_before_its_activity_is_given_back(run: str) -> None:
    early = began(activity_id="not scheduled yet")
    with assert_patches_tell_the_truth(run):
        assert record_hints(run, [began(), early]) == [early]
    record_history(run, [scheduled("not scheduled yet")])
    with assert_patches_tell_the_truth(run):
        assert record_hints(run, [early]) == []
    assert record_hints("not started yet", [early]) == [early]


def test_hint_about_an_id_that_was_used_again_finds_the_one_it_means(run: str) -> None:
    record_history(
        run,
        [
            ActivityClosed("a", ActivityStatus.COMPLETED, NOW),
            ActivityScheduled("a~2", "do", "activity", (), LATER, "a"),
        ],
    )
    late = began(7)
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        assert record_hints(run, [late]) == []
    second = replace(began(), scheduled_at=LATER)
    third = replace(began(), scheduled_at=LATER + timedelta(seconds=1))
    with assert_patches_tell_the_truth(run):
        assert record_hints(run, [second, third]) == [third]
    assert [each["status"] for each in document_of_rows(run)["activities"]] == [
        "completed",
        "running",
    ]


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


def test_description_tells_what_no_worker_of_ours_did(run: str) -> None:
    running = description(Standing(1, ActivityStatus.RUNNING), progress=0.25)
    note = AttemptNote(activity_id="a", number=1, outcome=AttemptOutcome.TIMED_OUT)
    backing_off = description(
        Standing(1, ActivityStatus.RETRYING, None, LATER), error=ERROR, notes=(note,)
    )
    queued_again = description(Standing(1, ActivityStatus.RETRYING), error=ERROR)
    with assert_patches_tell_the_truth(run) as told:
        for each in (running, backing_off, queued_again):
            record_descriptions(run, {"a": each})
    assert [message["ops"] for message in told.messages] == [
        [
            {"op": "replace", "path": "/activities/0/status", "value": "running"},
            {"op": "replace", "path": "/activities/0/started_at", "value": rfc3339(NOW)},
            {"op": "replace", "path": "/activities/0/progress", "value": 0.25},
        ],
        [
            {"op": "replace", "path": "/activities/0/status", "value": "retrying"},
            {
                "op": "replace",
                "path": "/activities/0/error_details",
                "value": {"type": "Oops", "message": "went wrong"},
            },
            {"op": "replace", "path": "/activities/0/next_attempt_at", "value": rfc3339(LATER)},
            {"op": "replace", "path": "/activities/0/progress", "value": None},
        ],
        [{"op": "replace", "path": "/activities/0/next_attempt_at", "value": None}],
    ]
    assert Attempt.objects.get(execution_id=run, number=1).outcome == "timed_out"


def test_description_knows_what_was_asked_of_an_activity(run: str) -> None:
    for asked in (PendingState.PAUSED, None, PendingState.PAUSE_REQUESTED):
        with assert_patches_tell_the_truth(run) as told:
            record_descriptions(run, {"a": description(Standing(1, ActivityStatus.PENDING, asked))})
        assert [operation["value"] for operation in told.operations] == [asked]
    record_history(run, [ActivityCancelRequested("a")])
    assert activity_of(run)["pending_state"] == "cancel_requested"
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_descriptions(run, {"a": description(Standing(1, ActivityStatus.PENDING))})
    record_history(run, [ActivityClosed("a", ActivityStatus.CANCELLED, LATER)])
    assert activity_of(run)["pending_state"] is None


def test_progress_that_temporal_repeats_does_not_go_back(run: str) -> None:
    record_hints(run, [began(), progress(0.5)])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_descriptions(
            run, {"a": description(Standing(1, ActivityStatus.RUNNING), progress=0.2)}
        )
    with assert_patches_tell_the_truth(run):
        record_descriptions(
            run, {"a": description(Standing(1, ActivityStatus.RUNNING), progress=0.6)}
        )
    assert activity_of(run)["progress"] == 0.6


def test_description_of_what_has_ended_changes_nothing(run: str) -> None:
    record_history(run, [ActivityClosed("a", ActivityStatus.COMPLETED, LATER)])
    late = {
        "a": description(Standing(2, ActivityStatus.RUNNING)),
        "unknown": description(Standing(1, ActivityStatus.RUNNING), "unknown"),
    }
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_descriptions(run, late)
    record_history(run, [RunClosed(ExecutionStatus.COMPLETED, LATER)])
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_descriptions(run, late)
