"""Local activities: Core's markers as recorded, Go's and Java's put together."""

from datetime import timedelta
from typing import Any

import pytest

from executions.attempts import AttemptOutcome
from executions.statuses import ActivityStatus
from executions.temporal.history.changes import (
    ActivityChange,
    ActivityClosed,
    ActivityScheduled,
    ActivityStarted,
    ErrorDetails,
)
from executions.temporal.history.local_activities import local_activity_of
from tests.histories.reading import (
    Kind,
    at,
    changes_in,
    changes_of,
    closed_in,
    completed,
    declined,
    depends_on,
    failure,
    history,
    payloads,
    run_completed,
    scheduled,
    scheduled_in,
    shown,
    started,
    started_in,
    task_completed,
    task_started,
)

NOT_YET = ErrorDetails("NotYet", "Not in attempt 1")


def seconds(moment: float) -> dict[str, int]:
    """A moment as Core writes it."""
    whole, part = divmod(moment, 1)
    return {"seconds": int(at(0).timestamp() + whole), "nanos": round(part * 1e9)}


def core(activity_id: str, begin: float, end: float, **data: Any) -> Kind:
    """Scheduled at that second by the worker's clock, ended at that one by the workflow's."""
    told = {
        "seq": 1,
        "attempt": 1,
        "activity_id": activity_id,
        "activity_type": "do",
        "complete_time": seconds(end),
        "backoff": None,
        "original_schedule_time": seconds(begin),
    } | data
    return "marker_recorded", {
        "marker_name": "core_local_activity",
        "details": {"data": payloads(told)},
    }


def other(**details: Any) -> Kind:
    told = {name: payloads(value) for name, value in details.items()}
    return "marker_recorded", {"marker_name": "LocalActivity", "details": told}


def in_one_task(*kinds: Kind) -> list[ActivityChange]:
    """What these change, as commands of the run's first task (from event 2 to event 3)."""
    changes = changes_of(history(started(), task_started(), task_completed(2), *kinds))
    return [change for change in changes if isinstance(change, ActivityChange)]


def test_local_activity_is_told_at_once() -> None:
    changes = in_one_task(core("a", 2.5, 2.2))
    assert changes == [
        ActivityScheduled("local:a", "do", "local_activity", (), at(2.5)),
        ActivityStarted("local:a", 1, at(2.5)),
        # The workflow's time was 2 s when it began: it ran for 0.2 s.
        ActivityClosed(
            "local:a", ActivityStatus.COMPLETED, at(2.7), outcome=AttemptOutcome.COMPLETED
        ),
    ]


def test_local_activities_of_a_real_run() -> None:
    changes = changes_in("local-activities")
    closed = closed_in(changes)
    seen = {name: (end.status.value, end.outcome, end.error) for name, end in closed.items()}
    done = ("completed", AttemptOutcome.COMPLETED, None)
    assert seen == {
        "local:first": done,
        "local:left": done,
        "local:right": done,
        "local:flaky": done,
        "after": done,
        "local:refused": ("failed", AttemptOutcome.FAILED, NOT_YET),
        "local:slow": (
            "failed",
            AttemptOutcome.TIMED_OUT,
            ErrorDetails(
                "TimeoutError", "Activity timed out (StartToClose timeout)", is_timeout=True
            ),
        ),
    }
    assert closed["local:flaky"].output == [shown(3)]
    assert started_in(changes)["local:flaky"].attempt == 3
    for name, told in scheduled_in(changes).items():
        assert told.scheduled_at <= started_in(changes)[name].started_at
        assert started_in(changes)[name].started_at <= closed[name].completed_at
    ran = closed["local:slow"].completed_at - started_in(changes)["local:slow"].started_at
    assert timedelta(seconds=0.1) <= ran < timedelta(seconds=0.3)


def test_local_activity_whose_retry_waits_for_a_timer_is_one_activity() -> None:
    changes = changes_in("patient-local-activity")
    attempts = [
        (told.attempt, told.last_failure)
        for told in changes
        if isinstance(told, ActivityStarted) and told.activity_id == "local:1"
    ]
    assert attempts == [(1, None), (2, NOT_YET)]
    assert list(scheduled_in(changes)) == ["local:1", "timer:1"]
    closed = closed_in(changes)["local:1"]
    assert (closed.status, closed.output) == (ActivityStatus.COMPLETED, [shown(2)])
    assert closed.completed_at > closed_in(changes)["timer:1"].completed_at


def test_local_activity_that_waits_at_the_runs_end_is_cancelled_with_it() -> None:
    waiting = core("a", 2.5, 2.2, backoff=seconds(60))
    closed = closed_in(in_one_task(waiting, run_completed()))["local:a"]
    assert closed.status is ActivityStatus.CANCELLED
    assert closed.error is not None
    assert closed.error.type == "RunClosed"


def test_local_activity_that_an_odd_event_closed_begins_anew() -> None:
    waiting = core("a", 2.5, 2.2, backoff=seconds(60))
    changes = in_one_task(waiting, completed(4), core("b", 2.5, 7, attempt=2))
    assert list(closed_in(changes)) == ["local:a", "local:b"]


def test_retried_local_activity_ended_when_its_task_did_at_the_latest() -> None:
    changes = in_one_task(core("a", 2.5, 2.2, attempt=3))
    # The workflow's time tells for how long the last attempt ran, not when.
    assert changes[1:] == [
        ActivityStarted("local:a", 3, at(3.8)),
        ActivityClosed(
            "local:a", ActivityStatus.COMPLETED, at(4), outcome=AttemptOutcome.COMPLETED
        ),
    ]


@pytest.mark.parametrize(
    ("told", "status", "outcome"),
    [
        (declined(), ActivityStatus.FAILED, AttemptOutcome.FAILED),
        (
            failure("late", timeout_failure_info={}),
            ActivityStatus.FAILED,
            AttemptOutcome.TIMED_OUT,
        ),
        (
            failure("stop", canceled_failure_info={}),
            ActivityStatus.CANCELLED,
            AttemptOutcome.CANCELLED,
        ),
        (
            failure(
                "Activity cancelled",
                failure("stop", canceled_failure_info={}),
                activity_failure_info={},
            ),
            ActivityStatus.CANCELLED,
            AttemptOutcome.CANCELLED,
        ),
    ],
)
def test_local_activity_ends_as_its_failure_says(
    told: Any, status: ActivityStatus, outcome: AttemptOutcome
) -> None:
    kind, attributes = core("a", 2.5, 2.2)
    closed = closed_in(in_one_task((kind, attributes | {"failure": told})))["local:a"]
    assert (closed.status, closed.outcome) == (status, outcome)
    assert (closed.error is None) == (status is ActivityStatus.CANCELLED)


def test_local_activity_without_an_id_is_called_by_its_number() -> None:
    changes = in_one_task(core("", 2.5, 2.2, seq=7), core("", 2.6, 2.3, seq=7))
    assert list(scheduled_in(changes)) == ["local:7", "local:7~2"]


def test_sequential_local_activities_of_one_task_depend_on_one_another() -> None:
    changes = in_one_task(
        core("a", 2.5, 2.2), core("b", 2.71, 2.4), core("c", 2.95, 2.5), scheduled("d")
    )
    assert depends_on(changes) == {
        "local:a": (),
        "local:b": ("local:a",),
        "local:c": ("local:b",),
        "d": ("local:c",),
    }


def test_parallel_local_activities_of_one_task_do_not_depend_on_one_another() -> None:
    changes = in_one_task(
        core("a", 2.5, 2.2), core("b", 2.501, 2.3), core("c", 2.502, 2.4), scheduled("d")
    )
    assert depends_on(changes) == {
        "local:a": (),
        "local:b": (),
        "local:c": (),
        "d": ("local:a", "local:b", "local:c"),
    }


def test_activity_scheduled_before_a_local_one_ended_does_not_depend_on_it() -> None:
    assert depends_on(in_one_task(scheduled("d"), core("a", 2.5, 2.2)))["d"] == ()


def test_local_activity_depends_on_what_its_task_had_seen_end() -> None:
    changes = changes_of(
        history(
            started(),
            scheduled("a"),
            completed(2),
            task_started(),
            task_completed(4),
            core("b", 4.5, 4.1),
            core("c", 4.7, 4.2),
        )
    )
    assert depends_on(changes) == {"a": (), "local:b": ("a",), "local:c": ("local:b",)}


def test_long_local_activity_does_not_depend_on_what_ended_after_it_was_scheduled() -> None:
    """Its first task went on for so long that another was started: what that one saw is late."""
    changes = changes_of(
        history(
            started(),
            scheduled("early"),
            scheduled("late"),
            completed(2),
            task_started(),
            task_completed(5),
            completed(3),
            task_started(),
            task_completed(8),
            core("a", 5.1, 13.0),
            scheduled("after"),
        )
    )
    assert depends_on(changes) == {
        "early": (),
        "late": (),
        "local:a": ("early",),
        "after": ("late", "local:a"),
    }


def test_go_tells_no_schedule_and_so_no_order_of_its_local_activities() -> None:
    go = {"ActivityID": "1", "ActivityType": "Do", "Attempt": 1, "Backoff": 5}
    first = other(data=go | {"ReplayTime": "2026-01-02T03:04:07.5Z"}, result=9)
    second = other(data=go | {"ActivityID": "2", "ReplayTime": "yesterday"})
    changes = in_one_task(first, second, scheduled("after"))
    assert changes[:3] == [
        ActivityScheduled("local:1", "Do", "local_activity", (), at(2)),
        ActivityStarted("local:1", 1, at(2)),
        ActivityClosed(
            "local:1",
            ActivityStatus.COMPLETED,
            at(2.5),
            outcome=AttemptOutcome.COMPLETED,
            output=[shown(9)],
        ),
    ]
    assert depends_on(changes)["after"] == ("local:1", "local:2")
    assert depends_on(changes)["local:2"] == ()


def test_java_tells_each_detail_by_itself() -> None:
    milliseconds = int(at(0).timestamp()) * 1_000
    meta = {"firstSkd": milliseconds + 2_500, "atpt": 1}
    marker = other(
        activityId="x", type="Do", time=milliseconds + 2_100, meta=meta, input="i", result="r"
    )
    changes = in_one_task(marker)
    assert changes[0] == ActivityScheduled(
        "local:x", "Do", "local_activity", (), at(2.5), input=[shown("i")]
    )
    closed = closed_in(changes)["local:x"]
    assert (closed.completed_at, closed.output) == (at(2.6), [shown("r")])


def test_java_without_its_metadata_is_told_as_far_as_it_can_be() -> None:
    changes = in_one_task(other(activityId="x", type="Do"))
    assert changes[1:] == [
        ActivityStarted("local:x", 1, at(2)),
        ActivityClosed(
            "local:x", ActivityStatus.COMPLETED, at(2), outcome=AttemptOutcome.COMPLETED
        ),
    ]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"activity_id": ["no text"], "activity_type": {}, "attempt": "one"},
        {"attempt": True, "original_schedule_time": 7, "complete_time": {"seconds": "x"}},
        {"attempt": 2**70, "original_schedule_time": {"seconds": 2**70}},
        {"attempt": -1, "complete_time": {"seconds": 253402300799, "nanos": "x"}},
        {"original_schedule_time": {"seconds": 253402300799}, "complete_time": seconds(9)},
        {"backoff": seconds(1)},
    ],
)
def test_odd_markers_are_told_as_far_as_they_can_be(data: Any) -> None:
    kind, attributes = core("", 2.5, 2.2)
    marker = kind, attributes | {"details": {"data": payloads(data)}}
    changes = in_one_task(marker, scheduled("after"))
    begun = next(iter(started_in(changes).values()))
    assert 1 <= begun.attempt < 2**31
    assert len(closed_in(changes)) == 1
    told = next(iter(scheduled_in(changes).values()))
    assert told.activity_id == "local:(unnamed)"
    assert told.activity_name == "(unnamed)"


def test_marker_without_details_is_told_as_far_as_it_can_be() -> None:
    changes = in_one_task(("marker_recorded", {"marker_name": "core_local_activity"}))
    assert list(closed_in(changes)) == ["local:(unnamed)"]


def test_other_markers_are_no_local_activities() -> None:
    told = history(("marker_recorded", {"marker_name": "core_patch"}))[0]
    assert local_activity_of(told.marker_recorded_event_attributes) is None
