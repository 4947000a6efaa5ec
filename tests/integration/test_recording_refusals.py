"""What the one door refuses, and that a refused change leaves nothing behind."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from executions.recording import (
    ActivityExistsError,
    AlreadyChangingError,
    Change,
    ExecutionClosedError,
    NewActivity,
    RecordingError,
    TransitionRefusedError,
    UnacceptableValueError,
    changing,
)
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


ChangeMade = Callable[[Change], None]


def assert_refused(
    execution_id: str, error: type[RecordingError], says: str, make: ChangeMade
) -> None:
    """The change raises, and leaves no row, no event and no signal behind."""
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        pytest.raises(error, match=says),
        changing(execution_id) as change,
    ):
        make(change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("execution_id", "other"),
        ("created_at", MOMENT),
        ("created_at", None),
        ("workflow_id", ""),
        ("workflow_id", "x" * 1_001),
        ("workflow_type", None),
        ("run_id", 5),
        ("status", "sleeping"),
        ("status", None),
        ("status", ActivityStatus.RETRYING),
        ("started_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("completed_at", "2026-01-01"),
        ("error_details", {"message": "no type"}),
        ("error_details", {}),
        ("parent_execution_id", "a/b"),
        ("previous_execution_id", ""),
        ("next_execution_id", 5),
        ("latest_point", {"kind": "signal"}),
        ("latest_point", "signal"),
    ],
)
def test_a_value_of_an_execution_that_is_not_acceptable_is_refused(name: str, value: Any) -> None:
    execution_id = an_execution("a")

    def make(change: Change) -> None:
        change.activity("a").status = ActivityStatus.RUNNING
        setattr(change.execution, name, value)

    assert_refused(execution_id, UnacceptableValueError, f"^{name} ", make)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", 10**9),
        ("activity_id", "other"),
        ("position", 7),
        ("execution_id", "other"),
        ("activity_name", "x" * 1_001),
        ("activity_type", ""),
        ("status", "timed_out"),
        ("pending_state", "sleeping"),
        ("pending_state", ""),
        ("pending_state", ActivityStatus.RUNNING),
        ("scheduled_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("next_attempt_at", "2026-01-01"),
        ("child_execution_id", "a/b"),
        ("attempt", True),
        ("attempt", 2**31),
        ("started_at", datetime(2026, 1, 1)),  # noqa: DTZ001
        ("completed_at", datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
        ("error_details", "text"),
        ("depends_on", "text"),
        ("depends_on", None),
        ("progress", True),
        ("progress", float("nan")),
        ("progress", 1.1),
    ],
)
@pytest.mark.parametrize("of", ["stored", "added"])
def test_a_value_of_an_activity_that_is_not_acceptable_is_refused(
    of: str, name: str, value: Any
) -> None:
    an_execution(execution_id="other")
    execution_id = an_execution("stored")

    def make(change: Change) -> None:
        change.execution.run_id = "run"
        change.add_activity(NewActivity(activity_id="added", activity_name="added"))
        setattr(change.activity(of), name, value)

    assert_refused(execution_id, UnacceptableValueError, f"^{name} ", make)


def test_a_transition_backwards_is_refused_with_all_that_was_changed_beside_it() -> None:
    execution_id = an_execution("a", "b")
    with changing(execution_id) as change:
        change.activity("a").status = ActivityStatus.COMPLETED
        change.activity("b").attempt = 2
        change.activity("b").status = ActivityStatus.RUNNING

    def take_an_activity_back(change: Change) -> None:
        change.activity("b").status = ActivityStatus.RUNNING
        change.add_activity(NewActivity(activity_id="c", activity_name="c"))
        change.activity("a").status = ActivityStatus.RUNNING

    def take_an_attempt_back(change: Change) -> None:
        change.activity("b").attempt = 1

    def take_the_execution_back(change: Change) -> None:
        change.activity("b").progress = 0.5
        change.execution.status = ExecutionStatus.PENDING

    assert_refused(execution_id, TransitionRefusedError, "is final", take_an_activity_back)
    assert_refused(execution_id, TransitionRefusedError, "only go forward", take_an_attempt_back)
    assert_refused(execution_id, TransitionRefusedError, "pending again", take_the_execution_back)


def test_an_attempt_that_failed_retries_and_runs_again() -> None:
    execution_id = an_execution("a")
    path = [(1, "running"), (1, "retrying"), (2, "running"), (2, "retrying"), (3, "completed")]
    with assert_patches_tell_the_truth(execution_id) as told:
        for attempt, status in path:
            with changing(execution_id) as change:
                activity = change.activity("a")
                activity.attempt, activity.status = attempt, status
    assert len(told.events) == len(path)


@pytest.mark.parametrize("existing", ["stored", "added", "added\x00"])
def test_adding_an_activity_twice_is_refused(existing: str) -> None:
    execution_id = an_execution("stored")

    def make(change: Change) -> None:
        change.activity("stored").progress = 0.5
        change.add_activity(NewActivity(activity_id="added", activity_name="added"))
        change.add_activity(NewActivity(activity_id="added\ufffd", activity_name="added"))
        change.add_activity(NewActivity(activity_id=existing, activity_name="again"))

    assert_refused(execution_id, ActivityExistsError, existing.rstrip("\x00"), make)


def test_nested_changes_of_one_execution_are_refused_and_of_two_are_not() -> None:
    outer_id, inner_id = an_execution("a"), an_execution("a")
    with (
        assert_patches_tell_the_truth(outer_id) as outer,
        assert_patches_tell_the_truth(inner_id) as inner,
        changing(outer_id) as change,
    ):
        change.execution.run_id = "outer"
        with (
            pytest.raises(AlreadyChangingError, match="enclosing"),
            changing(outer_id),
        ):
            raise AssertionError("the block is not entered")
        with pytest.raises(AlreadyChangingError):
            change.execution.save()
        with changing(inner_id) as other:
            other.execution.run_id = "inner"
        with pytest.raises(AlreadyChangingError), changing(outer_id):
            raise AssertionError("the block is not entered")
    assert [op["value"] for op in outer.operations + inner.operations] == ["outer", "inner"]
    with assert_patches_tell_the_truth(outer_id), changing(outer_id) as change:
        change.execution.run_id = "afterwards"


def end_otherwise(change: Change) -> None:
    change.execution.status = ExecutionStatus.COMPLETED


def run_again(change: Change) -> None:
    change.execution.status = ExecutionStatus.RUNNING


def change_a_field(change: Change) -> None:
    change.execution.run_id = "late"


def begin_an_activity(change: Change) -> None:
    change.activity("open").status = ActivityStatus.RUNNING


def reopen_an_activity(change: Change) -> None:
    change.activity("done").status = ActivityStatus.RUNNING


def change_a_done_activity(change: Change) -> None:
    change.activity("done").progress = 1


def add_an_activity(change: Change) -> None:
    change.add_activity(NewActivity(activity_id="late", activity_name="late"))


@pytest.mark.parametrize("closed_by", ["change", "creation"])
@pytest.mark.parametrize(
    "make",
    [
        end_otherwise,
        run_again,
        change_a_field,
        begin_an_activity,
        reopen_an_activity,
        change_a_done_activity,
        add_an_activity,
    ],
)
def test_nothing_of_a_closed_execution_changes_any_more(closed_by: str, make: ChangeMade) -> None:
    status = ExecutionStatus.FAILED if closed_by == "creation" else ExecutionStatus.RUNNING
    done = NewActivity(activity_id="done", activity_name="d", status=ActivityStatus.COMPLETED)
    still_open = NewActivity(activity_id="open", activity_name="o")
    execution_id = an_execution(status=status, activities=[done, still_open])
    if closed_by == "change":
        with changing(execution_id) as change:
            change.execution.status = ExecutionStatus.FAILED
    assert_refused(execution_id, ExecutionClosedError, "nothing of it changes any more", make)
    assert_log_is_whole(execution_id)


def test_a_change_of_a_closed_execution_that_changes_nothing_is_no_error() -> None:
    execution_id = an_execution("a", status=ExecutionStatus.FAILED)
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        changing(execution_id) as change,
    ):
        change.execution.status = ExecutionStatus.FAILED
        change.activity("a").status = ActivityStatus.PENDING
