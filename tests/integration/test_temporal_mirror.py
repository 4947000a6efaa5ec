"""Writing changes and hints into a real database: in any order, any number of times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.client import WorkflowHistory

from executions.attempts import AttemptNote, AttemptOutcome
from executions.document import rfc3339
from executions.models import ActivityDetails, Attempt, Execution, Point, WorkflowDefinition
from executions.recording import changing
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from executions.temporal.history.changes import (
    ActivityCancelRequested,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    Change,
    ErrorDetails,
    PointReached,
    RunClosed,
    RunLinked,
    RunStarted,
)
from executions.temporal.history.fold import HistoryFold
from executions.temporal.history.names import fitted
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.live.hints import ActivityHint, AttemptBegan, AttemptFailed, HeartbeatSent
from executions.temporal.live.precedence import Standing
from executions.temporal.mirroring import definitions
from executions.temporal.mirroring.histories import (
    CHANGES_PER_EVENT,
    not_mirrored_to_the_end,
    record_history,
    record_start,
)
from executions.temporal.mirroring.live_states import record_descriptions, record_hints
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
WHOLE = [
    "children",
    "compensating",
    "continued-from",
    "failing",
    "fan-out",
    "local-activities",
    "pipeline",
    "planned",
    "repeated-ids",
    "talking",
    "timeouts",
    "timers",
    "two-chains",
]


def scheduled(activity_id: str = "a") -> ActivityScheduled:
    return ActivityScheduled(activity_id, "do", "activity", (), NOW, activity_id)


def began(attempt: int = 1, activity_id: str = "a") -> AttemptBegan:
    return AttemptBegan(**about(activity_id, attempt), started_at=NOW)


def failed(attempt: int = 1, activity_id: str = "a") -> AttemptFailed:
    return AttemptFailed(
        **about(activity_id, attempt), error=ERROR, ended_at=NOW, next_attempt_at=LATER
    )


def progress(share: float, attempt: int = 1, activity_id: str = "a") -> HeartbeatSent:
    return HeartbeatSent(
        **about(activity_id, attempt), sent_at=NOW, progress=share, details=(share,)
    )


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


@dataclass(frozen=True)
class Tried:
    """An activity of a recorded history and how often it was tried."""

    activity_id: str
    engine_activity_id: str
    scheduled_at: datetime
    attempts: int


def tried_in(changes: Sequence[Change]) -> list[Tried]:
    attempts = {told.activity_id: told.attempt for told in changes if type(told) is ActivityStarted}
    return [
        Tried(
            told.activity_id,
            told.engine_activity_id,
            told.scheduled_at,
            attempts[told.activity_id],
        )
        for told in changes
        if type(told) is ActivityScheduled
        and told.engine_activity_id
        and told.activity_id in attempts
    ]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=st.sampled_from(WHOLE), data=st.data())
def test_sources_in_any_order_end_with_what_history_says(name: str, data: st.DataObject) -> None:
    events = WorkflowHistory.from_json(name, (HISTORIES / f"{name}.json").read_text()).events
    changes = HistoryFold(name, "r").feed(events)
    tried = tried_in(changes)
    execution_id = str(uuid4())
    folds = [HistoryFold(name, "r"), HistoryFold(name, "r")]
    read = [0, 0]

    def read_on(which: int, begin: int, end: int) -> None:
        read[which] = max(read[which], end)
        record_history(execution_id, folds[which].feed(events[min(begin, end) : end]))

    for which in data.draw(st.lists(st.integers(0, 1), max_size=10)):
        begin, end = data.draw(st.tuples(st.integers(0, read[which]), st.integers(1, len(events))))
        read_on(which, begin, end)
        if tried:
            record_hints(execution_id, data.draw(st.lists(hints_of(tried), max_size=6)))
            described = data.draw(st.lists(descriptions_of(tried), max_size=3))
            record_descriptions(execution_id, dict(described))
    for which in (0, 1):
        read_on(which, read[which], len(events))
    assert_log_is_whole(execution_id)
    fresh_id = str(uuid4())
    record_history(fresh_id, changes)
    mirrored = document_of_rows(execution_id)
    assert_same_document(mirrored | {"execution_id": fresh_id}, document_of_rows(fresh_id))
    assert ledger_of(execution_id) >= ledger_of(fresh_id)
    head = Execution.objects.get(pk=fresh_id).head
    record_history(fresh_id, HistoryFold(name, "r").feed(events))
    assert Execution.objects.get(pk=fresh_id).head == head


def ledger_of(execution_id: str) -> set[tuple[Any, ...]]:
    """What history alone says of attempts, details and points."""
    attempts = Attempt.objects.filter(execution_id=execution_id).exclude(outcome="running")
    details = ActivityDetails.objects.filter(execution_id=execution_id)
    points = Point.objects.filter(execution_id=execution_id)
    return {
        *attempts.values_list("activity_id", "number", "outcome"),
        *details.values_list("activity_id", "engine_activity_id", "task_queue"),
        *points.values_list("engine_event_id", "kind", "name", "at"),
    }


def hints_of(tried: list[Tried]) -> st.SearchStrategy[ActivityHint]:
    """Hints about attempts that there were."""

    def of(activity: Tried, attempt: int) -> st.SearchStrategy[ActivityHint]:
        name = activity.engine_activity_id
        hints: list[ActivityHint] = [began(attempt, name), progress(0.3, attempt, name)]
        if attempt < activity.attempts:
            hints.append(failed(attempt, name))
        return st.sampled_from(
            [replace(hint, scheduled_at=activity.scheduled_at) for hint in hints]
        )

    return attempts_of(tried).flatmap(lambda drawn: of(*drawn))


def descriptions_of(tried: list[Tried]) -> st.SearchStrategy[tuple[str, DescribedActivity]]:
    """What Temporal may have said, at some time, of attempts that there were."""

    def of(activity: Tried, attempt: int) -> st.SearchStrategy[tuple[str, DescribedActivity]]:
        standings = [Standing(attempt, ActivityStatus.RUNNING)]
        if attempt == 1:
            standings.append(Standing(1, ActivityStatus.PENDING, PendingState.PAUSED))
        if attempt < activity.attempts:
            standings.append(Standing(attempt, ActivityStatus.RETRYING, None, LATER))
        return st.sampled_from(
            [
                (activity.activity_id, description(standing, activity.engine_activity_id))
                for standing in standings
            ]
        )

    return attempts_of(tried).flatmap(lambda drawn: of(*drawn))


def attempts_of(tried: list[Tried]) -> st.SearchStrategy[tuple[Tried, int]]:
    return st.sampled_from(tried).flatmap(
        lambda activity: st.tuples(st.just(activity), st.integers(1, activity.attempts))
    )


def description(
    standing: Standing, engine_activity_id: str = "a", **told: Any
) -> DescribedActivity:
    fields: dict[str, Any] = {
        "scheduled_at": NOW,
        "started_at": NOW if standing.status is ActivityStatus.RUNNING else None,
        "error": None,
        "progress": None,
        "notes": (AttemptNote(activity_id=engine_activity_id, number=standing.attempt),),
    }
    return DescribedActivity(
        engine_activity_id=engine_activity_id, standing=standing, **(fields | told)
    )
