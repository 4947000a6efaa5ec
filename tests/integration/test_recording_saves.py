"""Ordinary `save()` of loaded objects records through the one door what was set on them."""

import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from executions.models import Activity, Execution
from executions.recording import (
    ExecutionClosedError,
    TransitionRefusedError,
    UnacceptableValueError,
    changing,
)
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.samples import an_execution
from tests.truth import Told, assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


def paths(told: Told) -> list[str]:
    return [operation["path"] for operation in told.operations]


def change_elsewhere(execution_id: str, **fields: Any) -> None:
    with changing(execution_id) as change:
        for name, value in fields.items():
            setattr(change.execution, name, value)


def test_only_what_was_changed_on_a_stale_object_is_written() -> None:
    execution_id = an_execution("a", "b", run_id="loaded")
    stale = Execution.objects.get(pk=execution_id)
    stale_activity = stale.activities.get(activity_id="b")
    change_elsewhere(execution_id, run_id="elsewhere")
    with changing(execution_id) as change:
        change.activity("b").status = ActivityStatus.RUNNING
    with assert_patches_tell_the_truth(execution_id) as told:
        stale.workflow_type = "Mine"
        stale.save()
        stale_activity.progress = 0.5
        stale_activity.save()
    assert paths(told) == ["/workflow_type", "/activities/1/progress"]
    assert (stale.run_id, stale_activity.status) == ("elsewhere", "running")
    assert stale.head.sequence == 3


def test_a_stale_object_takes_no_status_back() -> None:
    execution_id = an_execution("a")
    stale = Activity.objects.get(execution_id=execution_id)
    with changing(execution_id) as change:
        change.activity("a").status = ActivityStatus.COMPLETED
    stale.status = ActivityStatus.RUNNING
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        pytest.raises(TransitionRefusedError),
    ):
        stale.save()
    assert stale.status == ActivityStatus.RUNNING


def test_saving_what_was_not_changed_or_is_so_already_is_no_event() -> None:
    execution_id = an_execution("a", started_at=MOMENT)
    row = Execution.objects.get(pk=execution_id)
    change_elsewhere(execution_id, run_id="same")
    with assert_patches_tell_the_truth(execution_id, nothing_expected=True):
        row.save()
        row.run_id = "same"
        row.save()
        row.started_at = MOMENT.astimezone(timezone(timedelta(hours=2)))
        row.save()


def test_a_value_changed_in_place_is_saved() -> None:
    execution_id = an_execution("a", error_details={"type": None, "message": "first"})
    execution = Execution.objects.get(pk=execution_id)
    activity = execution.activities.get()
    with assert_patches_tell_the_truth(execution_id) as told:
        assert execution.error_details is not None
        execution.error_details["message"] = "second"
        execution.save()
        activity.depends_on.append("x")
        activity.save()
        activity.depends_on.append("y")
        activity.save()
    assert paths(told) == ["/error_details", *["/activities/0/depends_on"] * 2]


@pytest.mark.parametrize(
    ("model", "name", "value"),
    [
        (Execution, "execution_id", "other"),
        (Execution, "created_at", MOMENT),
        (Activity, "activity_id", "other"),
        (Activity, "execution_id", "other"),
        (Activity, "position", 5),
        (Activity, "pk", None),
        (Activity, "progress", 2),
    ],
)
def test_what_never_changes_and_what_is_not_acceptable_is_refused(
    model: type[Execution] | type[Activity], name: str, value: Any
) -> None:
    an_execution("a", execution_id="other")
    execution_id = an_execution("a")
    row = model.objects.get(execution_id=execution_id)
    setattr(row, name, value)
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        assert_patches_tell_the_truth("other", nothing_expected=True),
        pytest.raises(UnacceptableValueError),
    ):
        row.save()


def test_saving_into_a_closed_execution_is_refused() -> None:
    execution_id = an_execution("a")
    activity = Activity.objects.get(execution_id=execution_id)
    change_elsewhere(execution_id, status=ExecutionStatus.COMPLETED)
    activity.progress = 0.5
    with pytest.raises(ExecutionClosedError):
        activity.save()
    assert_log_is_whole(execution_id)


def test_update_fields_narrow_what_is_written_and_the_rest_waits() -> None:
    execution_id = an_execution("a")
    row = Execution.objects.get(pk=execution_id)
    row.run_id, row.workflow_type = "mine", "Mine"
    with assert_patches_tell_the_truth(execution_id, nothing_expected=True):
        row.save(update_fields=[])
    with assert_patches_tell_the_truth(execution_id) as told:
        row.save(update_fields=iter(["run_id", "status"]))
    assert paths(told) == ["/run_id"]
    assert row.workflow_type == "Mine"
    with assert_patches_tell_the_truth(execution_id) as told:
        row.save(False, False, None, {"workflow_type"})
    assert paths(told) == ["/workflow_type"]


def test_update_fields_that_are_none_are_an_error() -> None:
    row = Activity.objects.get(execution_id=an_execution("a"))
    row.progress = 0.5
    misspelt = ["progress", "stat" + "sus"]
    with pytest.raises(ValueError, match=r"no fields of Activity: \['statsus'\]"):
        row.save(update_fields=misspelt)
    with assert_patches_tell_the_truth(row.execution_id) as told:
        row.save(update_fields=["execution", "progress"])
    assert paths(told) == ["/activities/0/progress"]


def test_deferred_fields_are_saved_if_set_and_never_else() -> None:
    execution_id = an_execution("a", "b", run_id="loaded")
    execution = Execution.objects.only("status").get(pk=execution_id)
    activity = Activity.objects.only("status").get(execution_id=execution_id, activity_id="b")
    change_elsewhere(execution_id, workflow_type="Elsewhere")
    with assert_patches_tell_the_truth(execution_id) as told:
        execution.run_id = "set"
        execution.save()
        activity.progress = 0.5
        activity.save()
    assert paths(told) == ["/run_id", "/activities/1/progress"]
    assert execution.workflow_type == "Elsewhere"


def test_a_deferred_activity_id_that_is_set_is_still_one_that_never_changes() -> None:
    execution_id = an_execution("a", "b")
    row = Activity.objects.only("status").get(execution_id=execution_id, activity_id="a")
    row.activity_id = "b"
    row.progress = 0.5
    with (
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        pytest.raises(UnacceptableValueError, match="activity_id"),
    ):
        row.save()


def test_a_deferred_field_that_was_only_read_is_not_written() -> None:
    execution_id = an_execution(run_id="first")
    row = Execution.objects.defer("run_id").get(pk=execution_id)
    assert row.run_id == "first"
    change_elsewhere(execution_id, run_id="second")
    with assert_patches_tell_the_truth(execution_id) as told:
        row.status = ExecutionStatus.CANCELLED
        row.save()
    assert paths(told) == ["/status"]


@pytest.mark.parametrize("fields", [None, ["run_id"]])
def test_a_refreshed_object_writes_nothing_that_it_only_read(fields: list[str] | None) -> None:
    execution_id = an_execution(run_id="first")
    row = Execution.objects.get(pk=execution_id)
    change_elsewhere(execution_id, run_id="second")
    row.refresh_from_db(fields=fields)
    change_elsewhere(execution_id, run_id="third")
    with assert_patches_tell_the_truth(execution_id, nothing_expected=True):
        row.save()
    with assert_patches_tell_the_truth(execution_id) as told:
        row.run_id = "first"
        row.save()
    assert [operation["value"] for operation in told.operations] == ["first"]


def test_refreshing_some_fields_leaves_the_others_changed() -> None:
    execution_id = an_execution("a")
    row = Activity.objects.get(execution_id=execution_id)
    row.progress = 0.5
    row.refresh_from_db(fields=["status", "execution"])
    with assert_patches_tell_the_truth(execution_id) as told:
        row.save()
    assert paths(told) == ["/activities/0/progress"]


def test_saving_again_after_a_refusal_records_what_was_put_right() -> None:
    execution_id = an_execution("a")
    row = Activity.objects.get(execution_id=execution_id)
    row.status, row.progress = ActivityStatus.RUNNING, 2
    with pytest.raises(UnacceptableValueError):
        row.save()
    row.progress = 1
    with assert_patches_tell_the_truth(execution_id) as told:
        row.save()
    assert set(paths(told)) == {"/activities/0/status", "/activities/0/progress"}


def test_asynchronous_saves_and_pickled_rows_go_the_same_way() -> None:
    execution_id = an_execution("a")
    row = pickle.loads(pickle.dumps(Activity.objects.get(execution_id=execution_id)))  # noqa: S301
    with assert_patches_tell_the_truth(execution_id) as told:
        row.progress = 0.5
        async_to_sync(row.asave)()
        row.progress = 0.75
        async_to_sync(row.asave)(update_fields=["progress"])
    assert [operation["value"] for operation in told.operations] == [0.5, 0.75]
