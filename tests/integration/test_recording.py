"""The one door on a real database: what a change records and tells."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from executions import change as change_module
from executions.event_log import read_heads
from executions.recording import (
    NewActivity,
    UnknownActivityError,
    UnknownExecutionError,
    changing,
)
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from tests.samples import an_execution, shown_activity
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
WRITTEN_MOMENT = "2026-01-02T03:04:05.678901Z"
IMPOSSIBLE_IDS = ["", "a\x00b", "a\ud800", "\xe4", "a/b", "x" * 65, "x" * 10_000]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


class Clock:
    """Stands in for the `time` of executions.change; set in milliseconds."""

    def __init__(self) -> None:
        self.milliseconds = 1_700_000_000_000

    def time_ns(self) -> int:
        return self.milliseconds * 1_000_000 + 999_999


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(change_module, "time", clock)
    return clock


def test_every_field_that_differs_is_one_operation_of_one_event() -> None:
    execution_id = an_execution("a", "b", status=ExecutionStatus.PENDING)
    with (
        assert_patches_tell_the_truth(execution_id) as told,
        changing(execution_id) as change,
    ):
        change.execution.status = ExecutionStatus.RUNNING
        change.execution.started_at = MOMENT.astimezone(timezone(timedelta(hours=9)))
        change.execution.run_id = "run"
        change.execution.workflow_type = "Renamed"
        change.execution.parent_execution_id = "parent"
        change.execution.previous_execution_id = "previous"
        change.execution.next_execution_id = "next"
        change.execution.latest_point = {"kind": "signal", "name": "s", "at": WRITTEN_MOMENT}
        activity = change.activity("b")
        activity.status = ActivityStatus.FAILED
        activity.attempt = 3
        activity.progress = 1
        activity.completed_at = MOMENT
        activity.error_details = {"type": "E", "message": "no"}
        activity.pending_state = PendingState.CANCEL_REQUESTED
        activity.scheduled_at = activity.next_attempt_at = MOMENT
        activity.child_execution_id = "child"
    assert len(told.events) == 1
    assert {operation["path"]: operation["value"] for operation in told.operations} == {
        "/activities/1/status": "failed",
        "/activities/1/retry_count": 2,
        "/activities/1/progress": 1.0,
        "/activities/1/completed_at": WRITTEN_MOMENT,
        "/activities/1/error_details": {"type": "E", "message": "no"},
        "/activities/1/pending_state": "cancel_requested",
        "/activities/1/scheduled_at": WRITTEN_MOMENT,
        "/activities/1/next_attempt_at": WRITTEN_MOMENT,
        "/activities/1/child_execution_id": "child",
        "/status": "running",
        "/started_at": WRITTEN_MOMENT,
        "/run_id": "run",
        "/workflow_type": "Renamed",
        "/parent_execution_id": "parent",
        "/previous_execution_id": "previous",
        "/next_execution_id": "next",
        "/latest_point": {"kind": "signal", "name": "s", "at": WRITTEN_MOMENT},
    }


def test_what_ends_as_it_was_is_no_event() -> None:
    execution_id = an_execution("a", started_at=MOMENT)
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        changing(execution_id) as change,
    ):
        change.execution.workflow_type = "Other"
        change.execution.workflow_type = "Sample"
        change.execution.started_at = MOMENT.astimezone(timezone(timedelta(hours=-3)))
        change.activity("a").depends_on = ()
        change.activities()
        change.find_activity("none")
        change.execution.head_sequence = 77


def test_values_changed_in_place_are_recorded() -> None:
    execution_id = an_execution(
        "a",
        error_details={"type": None, "message": "first"},
        latest_point={"kind": "signal", "name": "s", "at": WRITTEN_MOMENT},
    )
    with changing(execution_id) as change:
        change.activity("a").error_details = {"type": None, "message": "first"}
    with (
        assert_patches_tell_the_truth(execution_id) as told,
        changing(execution_id) as change,
    ):
        activity = change.activity("a")
        activity.depends_on.append("x")
        assert activity.error_details is not None
        activity.error_details["message"] = "second"
        assert change.execution.error_details is not None
        change.execution.error_details["type"] = "E"
        assert change.execution.latest_point is not None
        change.execution.latest_point["name"] = "t"
    assert {operation["path"] for operation in told.operations} == {
        "/activities/0/depends_on",
        "/activities/0/error_details",
        "/error_details",
        "/latest_point",
    }


def test_added_activities_come_at_the_end_and_may_be_changed_further() -> None:
    execution_id = an_execution("a")
    with (
        assert_patches_tell_the_truth(execution_id) as told,
        changing(execution_id) as change,
    ):
        change.add_activity(NewActivity(activity_id="b", activity_name="b", depends_on=["a"]))
        added = change.add_activity(NewActivity(activity_id="c\x00", activity_name="c"))
        added.status = ActivityStatus.RUNNING
        added.started_at = MOMENT
        assert change.activity("c\x00") is added
        assert change.find_activity("c\ufffd") is added
        assert [row.activity_id for row in change.activities()] == ["a", "b", "c\ufffd"]
        change.activity("a").status = ActivityStatus.SKIPPED
    assert [(op["op"], op["path"]) for op in told.operations] == [
        ("replace", "/activities/0/status"),
        ("add", "/activities/1"),
        ("add", "/activities/2"),
    ]
    assert told.operations[2]["value"] == shown_activity(
        "c\ufffd", "c", status="running", started_at=WRITTEN_MOMENT
    )


def test_the_first_activity_of_an_execution_is_at_position_0() -> None:
    execution_id = an_execution()
    with assert_patches_tell_the_truth(execution_id), changing(execution_id) as change:
        change.add_activity(NewActivity(activity_id="a", activity_name="a"))


def test_one_activity_is_one_object_however_it_is_asked_for() -> None:
    execution_id = an_execution("a\x00", "b")
    with assert_patches_tell_the_truth(execution_id), changing(execution_id) as change:
        first = change.activity("a\x00")
        assert change.activity("a\ufffd") is first
        assert change.activities()[0] is first
        second = change.activities()[1]
        assert change.find_activity("b") is second
        first.progress, second.progress = 0.25, 0.75


def test_activities_loaded_at_once_are_the_objects_that_are_found() -> None:
    execution_id = an_execution("a\x00", "b", "c")
    with assert_patches_tell_the_truth(execution_id) as told, changing(execution_id) as change:
        first = change.activity("b")
        first.progress = 0.5
        added = change.add_activity(NewActivity(activity_id="d", activity_name="d"))
        change.load_activities({"a\x00", "b", "d", "none"})
        assert change.activity("b") is first
        assert change.activity("d") is added
        assert change.find_activity("none") is None
        change.activity("a\x00").progress = 0.25
        change.load_activities(["a\ufffd", "c"])
        change.activity("c").progress = 0.75
    assert [operation["path"] for operation in told.operations] == [
        "/activities/1/progress",
        "/activities/0/progress",
        "/activities/2/progress",
        "/activities/3",
    ]


def test_an_activity_that_was_not_there_when_loaded_is_found_once_it_is_added() -> None:
    execution_id = an_execution("a")
    with assert_patches_tell_the_truth(execution_id), changing(execution_id) as change:
        change.load_activities(["a", "late\x00"])
        assert change.find_activity("late\x00") is None
        added = change.add_activity(NewActivity(activity_id="late\x00", activity_name="late"))
        change.load_activities(["late\ufffd"])
        assert change.activity("late\x00") is added


def test_loading_activities_changes_nothing() -> None:
    execution_id = an_execution("a", "b")
    an_execution("theirs", execution_id="other")
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        changing(execution_id) as change,
    ):
        change.load_activities([])
        change.load_activities(["a", "b", "theirs", "\ud800", "x" * 2_000])
        assert change.find_activity("theirs") is None


@pytest.mark.parametrize("unknown", ["none", "", "x\x00", "\ud800", "x" * 2_000])
def test_an_unknown_activity_is_none_or_an_error_that_names_it(unknown: str) -> None:
    execution_id = an_execution("a")
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        changing(execution_id) as change,
    ):
        assert change.find_activity(unknown) is None
        with pytest.raises(UnknownActivityError, match=f"{execution_id} has no activity"):
            change.activity(unknown)


def test_activities_of_other_executions_are_out_of_reach() -> None:
    an_execution("theirs", execution_id="other")
    execution_id = an_execution("ours")
    with changing(execution_id) as change:
        assert change.find_activity("theirs") is None
        assert [row.activity_id for row in change.activities()] == ["ours"]


@pytest.mark.parametrize("unknown", ["none", *IMPOSSIBLE_IDS, None, 5])
def test_changing_an_unknown_execution_is_refused(unknown: Any) -> None:
    with pytest.raises(UnknownExecutionError, match="there is no execution"), changing(unknown):
        raise AssertionError("the block is not entered")


def test_objects_handed_out_may_be_saved_after_the_block() -> None:
    execution_id = an_execution("a", "b")
    with changing(execution_id) as change:
        execution, kept, added = (
            change.execution,
            change.activity("a"),
            change.add_activity(NewActivity(activity_id="c", activity_name="c")),
        )
        execution.run_id = "first"
        kept.status = added.status = ActivityStatus.RUNNING
    with changing(execution_id) as change:
        change.execution.run_id = "second"
        change.activity("a").status = ActivityStatus.COMPLETED
        change.activity("c").status = ActivityStatus.FAILED
    with assert_patches_tell_the_truth(execution_id) as told:
        execution.workflow_type = "Later"
        execution.save()
        kept.progress = added.progress = 0.5
        kept.save()
        added.save()
    assert [operation["path"] for operation in told.operations] == [
        "/workflow_type",
        "/activities/0/progress",
        "/activities/2/progress",
    ]


def test_milliseconds_never_go_back_when_the_clock_does(clock: Clock) -> None:
    execution_id = an_execution("a")
    before = clock.milliseconds
    for milliseconds in (before + 5, before - 60_000, 0, -1, before + 5, before + 6):
        clock.milliseconds = milliseconds
        with assert_patches_tell_the_truth(execution_id), changing(execution_id) as change:
            change.execution.run_id = f"at {read_heads([execution_id])[execution_id].event_id}"
    with changing(execution_id) as change:
        clock.milliseconds = 17
        change.execution.status = ExecutionStatus.COMPLETED
    log = assert_log_is_whole(execution_id)
    assert [event.event_id.milliseconds - before for event in log] == [0, 5, 5, 5, 5, 5, 6, 6, 6]


@pytest.mark.parametrize("status", [status for status in ExecutionStatus if status.is_final])
def test_a_final_status_closes_the_log_with_one_snapshot(status: ExecutionStatus) -> None:
    execution_id = an_execution("a", "b")
    with (
        assert_patches_tell_the_truth(execution_id) as told,
        changing(execution_id) as change,
    ):
        change.activity("b").status = ActivityStatus.COMPLETED
        change.execution.status = status
        change.execution.completed_at = MOMENT
        change.add_activity(NewActivity(activity_id="c", activity_name="late"))
    assert [message["type"] for message in told.messages] == ["activity_patch", "final_snapshot"]
    assert_log_is_whole(execution_id)
