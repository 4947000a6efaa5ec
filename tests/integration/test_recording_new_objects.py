"""New model objects, saved or made by managers, are recorded through the one door."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ObjectDoesNotExist

from executions.models import Activity, Execution
from executions.recorded_rows import RecordedQuerySet
from executions.recording import (
    ActivityExistsError,
    ExecutionExistsError,
    UnacceptableValueError,
    UnknownExecutionError,
)
from executions.statuses import ExecutionStatus, PendingState
from tests.samples import an_execution, shown_activity
from tests.truth import Told, assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


def paths(told: Told) -> list[str]:
    return [operation["path"] for operation in told.operations]


def test_saving_a_new_execution_creates_it() -> None:
    point = {"kind": "signal", "name": "s", "at": "2026-01-02T03:04:05.678901Z"}
    row = Execution(
        execution_id="new",
        workflow_id="w\x00",
        workflow_type="t",
        parent_execution_id="p",
        latest_point=point,
    )
    with assert_patches_tell_the_truth("new") as told:
        row.save()
    assert told.messages[0]["type"] == "initial_snapshot"
    shown = told.messages[0]["execution"]
    assert (shown["parent_execution_id"], shown["latest_point"]) == ("p", point)
    assert row.workflow_id == "w\ufffd"
    assert row.head == told.events[0].event_id
    with assert_patches_tell_the_truth("new") as told:
        row.status = ExecutionStatus.RUNNING
        row.save()
    assert paths(told) == ["/status"]


def test_saving_a_new_activity_adds_it() -> None:
    execution = Execution.objects.get(pk=an_execution("a"))
    row = Activity(
        execution=execution,
        activity_id="b",
        activity_name="B",
        position=77,
        pending_state=PendingState.PAUSED,
        scheduled_at=MOMENT,
        child_execution_id="c",
    )
    with assert_patches_tell_the_truth(execution.pk) as told:
        row.save()
    assert paths(told) == ["/activities/1"]
    assert told.operations[0]["value"] == shown_activity(
        "b",
        "B",
        pending_state="paused",
        scheduled_at="2026-01-02T03:04:05.678901Z",
        child_execution_id="c",
    )
    assert row.position == 1
    with assert_patches_tell_the_truth(execution.pk) as told:
        row.progress = 0.5
        row.save()
    assert paths(told) == ["/activities/1/progress"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (Execution(execution_id="there", workflow_id="w", workflow_type="t"), ExecutionExistsError),
        (Execution(workflow_id="w"), UnacceptableValueError),
        (Execution(execution_id="a/b", workflow_id="w", workflow_type="t"), UnacceptableValueError),
        (Activity(execution_id="there", activity_id="a", activity_name="a"), ActivityExistsError),
        (Activity(execution_id="there", activity_id="b"), UnacceptableValueError),
        (Activity(execution_id="none", activity_id="b", activity_name="b"), UnknownExecutionError),
        (Activity(activity_id="b", activity_name="b"), UnknownExecutionError),
    ],
)
def test_a_new_object_that_is_not_acceptable_is_refused(
    row: Execution | Activity, error: type[Exception]
) -> None:
    an_execution("a", execution_id="there")
    with (
        assert_patches_tell_the_truth("there", nothing_expected=True),
        pytest.raises(error),
    ):
        row.save()
    assert Execution.objects.count() == 1


def test_managers_create_through_the_door() -> None:
    with assert_patches_tell_the_truth("e") as told:
        execution = Execution.objects.create(execution_id="e", workflow_id="w", workflow_type="t")
        Activity.objects.create(execution=execution, activity_id="a", activity_name="a")
        execution.activities.create(activity_id="b", activity_name="b")
        execution.activities.get_or_create(activity_id="c", defaults={"activity_name": "c"})
        async_to_sync(execution.activities.acreate)(activity_id="d", activity_name="d")
        execution.activities.add(Activity(activity_id="e", activity_name="e"), bulk=False)
    assert paths(told) == [f"/activities/{position}" for position in range(5)]


def test_get_or_create_gets_what_is_there() -> None:
    an_execution("a", execution_id="e")
    with assert_patches_tell_the_truth("e", nothing_expected=True):
        _, created = Execution.objects.get_or_create(
            execution_id="e", defaults={"workflow_id": "x"}
        )
        assert not created
        _, created = Activity.objects.get_or_create(execution_id="e", activity_id="a")
        assert not created


def test_get_or_create_gets_what_another_created_at_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missed_by_a_moment(rows: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return get(rows, *args, **kwargs)
        except ObjectDoesNotExist:
            if rows.model is Execution:
                an_execution(execution_id="e", run_id="another's")
            else:
                Activity(execution_id="e", activity_id="a", activity_name="another's").save()
            raise

    get = RecordedQuerySet.get
    monkeypatch.setattr(RecordedQuerySet, "get", missed_by_a_moment)
    execution, created = Execution.objects.get_or_create(
        execution_id="e", defaults={"workflow_id": "w", "workflow_type": "t"}
    )
    activity, added = execution.activities.get_or_create(
        activity_id="a", defaults={"activity_name": "a"}
    )
    assert (execution.run_id, created) == ("another's", False)
    assert (activity.activity_name, added) == ("another's", False)
    assert_log_is_whole("e")


def test_update_or_create_creates_and_then_changes() -> None:
    with assert_patches_tell_the_truth("e") as told:
        for run_id in ("first", "second", "second"):
            Execution.objects.update_or_create(
                execution_id="e",
                defaults={"run_id": run_id},
                create_defaults={"workflow_id": "w", "workflow_type": "t", "run_id": run_id},
            )
        execution = Execution.objects.get(pk="e")
        for status in ("pending", "running"):
            execution.activities.update_or_create(
                activity_id="a", defaults={"activity_name": "a", "status": status}
            )
    assert paths(told) == ["/run_id", "/activities/0", "/activities/0/status"]
