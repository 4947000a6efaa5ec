"""Recording what a run's history says, any number of times, in a real database."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from executions.attempts import AttemptOutcome
from executions.document import rfc3339
from executions.models import Attempt, Point, WorkflowDefinition
from executions.recording import changing
from executions.statuses import ActivityStatus, ExecutionStatus
from executions.temporal.history.changes import (
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    ErrorDetails,
    PointReached,
    RunClosed,
    RunLinked,
)
from executions.temporal.history.names import fitted
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.mirroring import definitions
from executions.temporal.mirroring.histories import (
    CHANGES_PER_EVENT,
    not_mirrored_to_the_end,
    record_history,
    record_start,
)
from executions.temporal.mirroring.live_states import record_hints
from tests.integration.telling import ERROR, LATER, NOW, START, a_run, activity_of, began, scheduled
from tests.truth import assert_patches_tell_the_truth, document_of_rows

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def run() -> str:
    return a_run()


def test_run_starts_running_with_temporals_time(run: str) -> None:
    document = document_of_rows(run)
    assert document["status"] == "running"
    assert document["started_at"] == document["created_at"] == "2026-01-02T03:04:05.000000Z"
    assert (document["workflow_id"], document["workflow_type"]) == ("w", "W")
    assert document["run_id"] == "r"
    assert activity_of(run)["status"] == "pending"


def test_attempt_that_only_history_knows_is_running(run: str) -> None:
    with assert_patches_tell_the_truth(run):
        record_history(run, [ActivityStarted("a", 1, NOW)])
    assert activity_of(run)["status"] == "running"


def test_large_batch_becomes_several_events() -> None:
    execution_id = str(uuid4())
    many: list[Change] = [scheduled(str(n)) for n in range(CHANGES_PER_EVENT + 100)]
    with assert_patches_tell_the_truth(execution_id) as told:
        record_history(execution_id, [START, *many])
    assert [len(message.get("ops", ())) for message in told.messages] == [0, 500, 100]


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


def test_failure_stays_in_sight_until_a_later_attempt_completes(run: str) -> None:
    second = ActivityStarted("a", 2, NOW, "worker", ErrorDetails("Oops", "went wrong", "File …"))
    record_history(run, [second])
    assert activity_of(run)["status"] == "running"
    assert activity_of(run)["error_details"] == {"type": "Oops", "message": "went wrong"}
    done = ActivityClosed("a", ActivityStatus.COMPLETED, LATER, None, AttemptOutcome.COMPLETED)
    record_history(run, [done])
    assert activity_of(run)["error_details"] is None
    first, last = Attempt.objects.filter(execution_id=run)
    failure = {"type": "Oops", "message": "went wrong", "stack_trace": "File …"}
    assert (first.outcome, first.failure) == ("failed", failure)
    assert (last.outcome, last.worker_identity, last.ended_at) == ("completed", "worker", LATER)


def test_attempt_that_ran_when_its_run_ended_has_an_unknown_end(run: str) -> None:
    record_history(run, [scheduled("queued")])
    record_hints(run, [began()])
    gone = [
        ActivityClosed(name, ActivityStatus.CANCELLED, LATER, ERROR) for name in ("a", "queued")
    ]
    record_history(run, [*gone, RunClosed(ExecutionStatus.TERMINATED, LATER)])
    assert list(Attempt.objects.values_list("activity_id", "outcome")) == [("a", "unknown")]


def test_timers_and_children_have_no_attempts_and_children_are_linked(run: str) -> None:
    child = ActivityScheduled("child:w2", "W2", "child_workflow", (), NOW)
    timer = ActivityScheduled("timer:1", "timer", "timer", (), NOW)
    with assert_patches_tell_the_truth(run):
        record_history(
            run,
            [
                child,
                timer,
                ActivityStarted("child:w2", 1, NOW, child_run_id="the-child"),
                ActivityStarted("timer:1", 1, NOW),
            ],
        )
    activities = document_of_rows(run)["activities"]
    assert activities[1]["child_execution_id"] == "the-child"
    assert [each["status"] for each in activities] == ["pending", "running", "running"]
    assert not Attempt.objects.filter(execution_id=run).exists()


def test_points_are_told_once_and_the_latest_stays_the_latest(run: str) -> None:
    first = PointReached(5, NOW, "signal", "go", {"input": []})
    second = PointReached(9, LATER, "cancel_requested")
    with assert_patches_tell_the_truth(run) as told:
        record_history(run, [first])
        record_history(run, [second])
    at = [operation["value"]["at"] for operation in told.operations]
    assert at == [rfc3339(NOW), rfc3339(LATER)]
    with assert_patches_tell_the_truth(run, nothing_expected=True):
        record_history(run, [first])
    assert document_of_rows(run)["latest_point"]["kind"] == "cancel_requested"
    assert [point.kind for point in Point.objects.filter(execution_id=run)] == [
        "signal",
        "cancel_requested",
    ]


def test_runs_are_linked_to_those_around_them() -> None:
    execution_id = str(uuid4())
    record_history(execution_id, [replace(START, parent_run_id="parent", previous_run_id="before")])
    with assert_patches_tell_the_truth(execution_id):
        record_history(execution_id, [RunLinked("reset-from")])
        closed = RunClosed(ExecutionStatus.CONTINUED_AS_NEW, LATER, None, "after")
        record_history(execution_id, [closed])
    document = document_of_rows(execution_id)
    assert document["parent_execution_id"] == "parent"
    assert document["previous_execution_id"] == "reset-from"
    assert document["next_execution_id"] == "after"


def test_planned_activity_takes_its_real_dependencies_when_it_is_scheduled() -> None:
    execution_id = str(uuid4())
    definition = {"activities": [{"activity_id": "x"}, {"activity_id": "y", "depends_on": ["x"]}]}
    assert record_start(execution_id, replace(START, definition=definition)) == (
        PlannedActivity("x", "x"),
        PlannedActivity("y", "y", ("x",)),
    )
    planned = document_of_rows(execution_id)["activities"]
    assert [(each["status"], each["scheduled_at"]) for each in planned] == [("pending", None)] * 2
    real = ActivityScheduled("y", "do", "local_activity", (), NOW, "7")
    with assert_patches_tell_the_truth(execution_id):
        record_history(execution_id, [real])
        skipped = ActivityClosed("x", ActivityStatus.SKIPPED, LATER)
        record_history(execution_id, [skipped])
    x, y = document_of_rows(execution_id)["activities"]
    assert (y["activity_name"], y["depends_on"], y["scheduled_at"]) == ("do", [], rfc3339(NOW))
    assert x["status"] == "skipped"


@pytest.mark.parametrize(
    ("definition", "kept"),
    [
        ({"activities": "not a list"}, True),
        (["no", "plan"], True),
        ({"activities": [], "pages": ["x" * 1000] * 1100}, False),
    ],
)
def test_definition_that_plans_nothing_harms_nothing(definition: Any, kept: bool) -> None:
    execution_id = str(uuid4())
    assert record_start(execution_id, replace(START, definition=definition)) == ()
    stored = WorkflowDefinition.objects.filter(pk=execution_id).values_list("definition", flat=True)
    assert list(stored) == ([definition] if kept else [])


def test_definition_of_the_start_comes_before_the_registered_one_and_the_stored_before_both() -> (
    None
):
    one, other = ({"activities": [{"activity_id": name}]} for name in ("one", "other"))
    definitions.register({"W": one})
    first, second = str(uuid4()), str(uuid4())
    assert [each.activity_id for each in record_start(first, START)] == ["one"]
    given = replace(START, definition=other)
    assert [each.activity_id for each in record_start(second, given)] == ["other"]
    assert [each.activity_id for each in record_start(first, given)] == ["one"]
