"""What the fold makes of activities: recorded ones, and events put together for rarer cases."""

import pytest

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import (
    ActivityCancelRequested,
    ActivityChange,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    ErrorDetails,
    RunClosed,
    RunStarted,
)
from executions.temporal.history.fold import HistoryFold
from executions.temporal.history.plan import PlannedActivity, planned_activities
from tests.histories.reading import (
    at,
    changes_in,
    changes_of,
    closed_in,
    completed,
    declined,
    depends_on,
    ends,
    failure,
    history,
    recorded,
    run_completed,
    scheduled,
    scheduled_in,
    shown,
    started,
    started_in,
)


def test_timed_out_and_refused_activities_are_failed() -> None:
    closed = closed_in(changes_in("compensating")).values()
    assert [told.error for told in closed] == [
        ErrorDetails("TimeoutError", "activity StartToClose timeout", is_timeout=True),
        ErrorDetails("UnknownCustomer", "No such customer"),
        None,
    ]
    assert [told.status.value for told in closed] == ["failed", "failed", "completed"]
    assert [told.outcome for told in closed] == ["timed_out", "failed", "completed"]


@pytest.mark.parametrize(
    ("activity_id", "message", "outcome"),
    [
        ("start-to-close", "activity StartToClose timeout", AttemptOutcome.TIMED_OUT),
        ("schedule-to-start", "activity ScheduleToStart timeout", None),
        (
            "schedule-to-close",
            "Not enough time to schedule next retry before activity ScheduleToClose timeout, "
            "giving up retrying (last failure: NotYet: Not in attempt 1)",
            None,
        ),
        ("heartbeat", "activity Heartbeat timeout", AttemptOutcome.TIMED_OUT),
    ],
)
def test_each_kind_of_timeout_is_named_and_ends_an_attempt_where_one_had_begun(
    activity_id: str, message: str, outcome: AttemptOutcome | None
) -> None:
    closed = closed_in(changes_in("timeouts"))[activity_id]
    assert closed.status is ActivityStatus.FAILED
    assert closed.error == ErrorDetails("TimeoutError", message, is_timeout=True)
    assert closed.outcome is outcome


def test_activity_cancelled_before_it_started_is_cancelled() -> None:
    cancelled = "activity_task_canceled", {"scheduled_event_id": 2}
    requested = "activity_task_cancel_requested", {"scheduled_event_id": 2}
    changes = changes_of(history(started(), scheduled("a"), requested, cancelled))
    assert changes[2:] == [
        ActivityCancelRequested("a"),
        ActivityClosed("a", ActivityStatus.CANCELLED, at(4)),
    ]


def test_activity_is_cancelled_once_it_has_been_asked_to_be() -> None:
    changes = changes_in("impatient")
    order = [
        type(told)
        for told in changes
        if isinstance(told, ActivityChange) and told.activity_id == "patient"
    ]
    assert order == [ActivityScheduled, ActivityCancelRequested, ActivityStarted, ActivityClosed]
    closed = closed_in(changes)["patient"]
    assert (closed.status, closed.error) == (ActivityStatus.CANCELLED, None)
    assert closed.outcome is AttemptOutcome.CANCELLED


def test_request_to_cancel_what_has_ended_changes_nothing() -> None:
    requested = "activity_task_cancel_requested", {"scheduled_event_id": 2}
    changes = changes_of(history(started(), scheduled("a"), completed(2), requested))
    assert isinstance(changes[-1], ActivityClosed)


def test_timeout_after_failed_attempts_names_the_last_failure() -> None:
    timed_out = failure("activity ScheduleToClose timeout", declined(), timeout_failure_info={})
    told = "activity_task_timed_out", {"scheduled_event_id": 2, "failure": timed_out}
    end = closed_in(changes_of(history(started(), scheduled("a"), told)))["a"]
    assert end.error == ErrorDetails(
        "TimeoutError",
        "activity ScheduleToClose timeout (last failure: CardDeclined: declined)",
        is_timeout=True,
    )


def test_activity_is_scheduled_with_what_it_was_given() -> None:
    told = scheduled_in(changes_in("timeouts"))
    assert told["schedule-to-start"].task_queue == "nobody-works-here"
    assert told["schedule-to-start"].engine_activity_id == "schedule-to-start"
    assert told["schedule-to-start"].options == {
        "schedule_to_start_timeout_seconds": 0.3,
        "start_to_close_timeout_seconds": 30,
        "retry_policy": {
            "initial_interval_seconds": 1,
            "backoff_coefficient": 2.0,
            "maximum_interval_seconds": 100,
            "maximum_attempts": 1,
        },
    }
    assert told["heartbeat"].input == [shown(0), shown(60.0)]
    scheduled_at = recorded("timeouts")[4].event_time.ToDatetime(tzinfo=at(0).tzinfo)
    assert told["start-to-close"].scheduled_at == scheduled_at


def test_only_options_that_are_set_are_told() -> None:
    policy = {"backoff_coefficient": float("nan"), "non_retryable_error_types": ["Fatal"]}
    changes = changes_of(history(started(), scheduled("a"), scheduled("b", retry_policy=policy)))
    assert scheduled_in(changes)["a"].options == {}
    assert scheduled_in(changes)["b"].options == {
        "retry_policy": {"non_retryable_error_types": ["Fatal"]}
    }
    assert scheduled_in(changes)["a"].input is None


def test_attempt_is_told_with_its_worker_and_why_the_one_before_it_failed() -> None:
    told = {
        "scheduled_event_id": 2,
        "attempt": 3,
        "identity": "worker@example",
        "last_failure": declined(stack_trace="in charge"),
    }
    changes = changes_of(
        history(started(), scheduled("a"), ("activity_task_started", told), completed(2))
    )
    error = ErrorDetails("CardDeclined", "declined", "in charge")
    assert changes[2] == ActivityStarted("a", 3, at(3), "worker@example", error)
    first = started_in(changes_in("pipeline"))["1"]
    assert (first.worker_identity, first.last_failure) == ("worker@example", None)


def test_result_is_shown() -> None:
    assert closed_in(changes_in("timers"))["after-the-wait"].output == [shown(1)]
    assert (
        closed_in(changes_of(history(started(), scheduled("a"), completed(2))))["a"].output is None
    )


def test_planned_activities_are_taken_and_those_that_never_came_are_skipped() -> None:
    events = recorded("planned")
    fold = HistoryFold("planned", "run")
    begun = fold.feed(events[:1])[0]
    assert isinstance(begun, RunStarted)
    fold.adopt(planned_activities(begun.definition))
    changes = fold.feed(events)
    assert list(scheduled_in(changes)) == ["check", "refund", "report"]
    assert "report" not in fold.open_activities
    assert isinstance(changes[-1], RunClosed)
    assert changes[-2] == ActivityClosed(
        "pack-and-ship", ActivityStatus.SKIPPED, changes[-1].completed_at
    )
    assert list(ends(changes).values()).count(ActivityStatus.SKIPPED) == 1


def test_plan_is_taken_by_local_activities_and_child_workflows_too() -> None:
    names = {"local-activities": "later", "children": "ChildWorkflow"}
    for name, activity_name in names.items():
        fold = HistoryFold("workflow", "run")
        fold.feed(recorded(name)[:1])
        fold.adopt([PlannedActivity("planned", activity_name)])
        scheduled = list(scheduled_in(fold.feed(recorded(name))).values())
        assert scheduled[0].activity_id == "planned"
        assert scheduled[1].activity_id.startswith(("local:", "child:"))


def test_open_activity_is_found_by_temporals_id_under_its_planned_one() -> None:
    fold = HistoryFold("workflow", "run")
    events = history(started(), scheduled("1", "charge_card"))
    fold.feed(events[:1])
    fold.adopt([PlannedActivity("charge", "charge_card")])
    fold.feed(events)
    assert fold.open_activities == {"1": "charge"}


def test_ids_that_look_like_repeated_ones_stay_apart() -> None:
    changes = changes_of(history(started(), scheduled("a"), scheduled("a~2"), scheduled("a")))
    assert list(depends_on(changes)) == ["a", "a~2", "a~3"]


def test_repeated_id_of_full_length_is_cut_to_fit() -> None:
    changes = changes_of(history(started(), scheduled("ä" * 500), scheduled("ä" * 500)))
    assert list(depends_on(changes)) == ["ä" * 500, "ä" * 499 + "~2"]


def test_open_activity_is_found_by_temporals_id_while_it_is_open() -> None:
    events = history(started(), scheduled("a"), completed(2), scheduled("a"), completed(4))
    fold = HistoryFold("workflow", "run")
    found = []
    for event in events:
        fold.feed([event])
        found.append(fold.open_activities.get("a"))
        assert list(fold.open_activities.values()) == ([found[-1]] if found[-1] else [])
    assert found == [None, "a", None, "a~2", None]


def test_activity_whose_id_is_taken_over_while_it_is_open_is_not_found_any_more() -> None:
    fold = HistoryFold("workflow", "run")
    fold.feed(history(started(), scheduled("a"), scheduled("a"), completed(2)))
    assert fold.open_activities == {"a": "a~2"}
    fold.feed([*history(*[started()] * 4, run_completed())])
    assert fold.open_activities == {}


def test_run_is_closed_once_its_end_was_fed() -> None:
    fold = HistoryFold("workflow", "run")
    events = history(started(), scheduled("a"), completed(2), run_completed())
    fold.feed(events[:3])
    assert not fold.is_closed
    fold.feed(events)
    assert fold.is_closed
