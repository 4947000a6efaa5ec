"""Every way of Django's to write past the one door is an error that says what to call.

Not guarded, because nobody comes there by chance: SQL of one's own, the manager that is
called `unrecorded_writes`, Django's private methods (`_update`, `_raw_delete`), and
`loaddata`, which restores rows and log together.
"""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from executions.models import Activity, Event, Execution, WorkflowDefinition
from executions.recorded_rows import UnrecordedWriteError
from executions.recording import record_saved
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MODELS = [Execution, Activity, Event, WorkflowDefinition]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def execution() -> Execution:
    an_execution("theirs", execution_id="other")
    return Execution.objects.get(pk=an_execution("ours", workflow_definition={"nodes": []}))


def awaited(write: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The asynchronous method, to be called like its synchronous one."""

    async def call(*args: Any, **fields: Any) -> Any:
        return await write(*args, **fields)

    return async_to_sync(call)


def assert_refused(
    execution: Execution, write: Callable[..., Any], *args: Any, **fields: Any
) -> None:
    with (
        assert_patches_tell_the_truth(execution.pk, nothing_expected=True),
        assert_patches_tell_the_truth("other", nothing_expected=True),
        pytest.raises(UnrecordedWriteError, match=r"use executions\.recording\.changing\(\)"),
    ):
        write(*args, **fields)
    for execution_id in ("other", execution.pk):
        assert_log_is_whole(execution_id)
    assert WorkflowDefinition.objects.get().definition == {"nodes": []}


@pytest.mark.parametrize("of", ["manager", "rows", "base manager", "default manager"])
@pytest.mark.parametrize("model", MODELS)
def test_writing_many_rows_at_once_is_refused(execution: Execution, model: Any, of: str) -> None:
    rows = {
        "manager": model.objects,
        "rows": model.objects.filter(execution_id=execution.pk).order_by("pk"),
        "base manager": model._base_manager,
        "default manager": model._default_manager,
    }[of]
    row = model.objects.get(execution_id=execution.pk)
    assert_refused(execution, rows.update, execution_id="other")
    assert_refused(execution, rows.bulk_create, [row])
    assert_refused(execution, rows.bulk_create, [row], update_conflicts=True)
    assert_refused(execution, rows.bulk_update, [row], ["execution_id"])
    assert_refused(execution, rows.all().delete)
    assert_refused(execution, awaited(rows.aupdate), execution_id="other")
    assert_refused(execution, awaited(rows.abulk_create), [row])
    assert_refused(execution, awaited(rows.abulk_update), [row], ["execution_id"])
    assert_refused(execution, awaited(rows.all().adelete))


@pytest.mark.parametrize("model", MODELS)
def test_deleting_or_writing_a_row_past_the_door_is_refused(
    execution: Execution, model: Any
) -> None:
    row = model.objects.get(execution_id=execution.pk)
    assert_refused(execution, row.delete)
    assert_refused(execution, awaited(row.adelete))
    assert_refused(execution, row.save_base)


@pytest.mark.parametrize("model", [Event, WorkflowDefinition])
def test_events_and_definitions_are_never_saved(execution: Execution, model: Any) -> None:
    row = model.objects.get(execution_id=execution.pk)
    assert_refused(execution, row.save)
    assert_refused(execution, awaited(row.asave))
    assert_refused(execution, model.objects.create, execution_id=execution.pk)
    with pytest.raises(TypeError, match="is not recorded"):
        record_saved(model(), None)


def test_related_managers_refuse_too(execution: Execution) -> None:
    theirs = Activity.objects.get(execution_id="other")
    activities: Any = execution.activities
    for write in (activities.update, activities.filter(activity_id="ours").update):
        assert_refused(execution, write, status="completed")
    assert_refused(execution, activities.all().delete)
    assert_refused(execution, activities.bulk_create, [theirs])
    assert_refused(execution, activities.bulk_update, [theirs], ["position"])
    assert_refused(execution, activities.add, theirs)
    assert_refused(execution, activities.set, [theirs])
    assert_refused(execution, activities.set, [theirs], clear=True)
    assert_refused(execution, awaited(activities.aadd), theirs)
    assert_refused(execution, awaited(activities.aset), [theirs])
    assert_refused(execution, awaited(activities.aupdate), status="completed")
    events: Any = execution.events
    assert_refused(execution, events.update, message="{}")
    assert_refused(execution, events.add, Event.objects.get(execution_id="other"))
    assert_refused(execution, events.create, sequence=9, milliseconds=9, message="{}")
    for manager in (activities, events):
        for removing in ("remove", "clear"):
            assert not hasattr(manager, removing), "the execution of a row is never null"


def test_the_error_names_the_call_and_both_remedies(execution: Execution) -> None:
    with pytest.raises(UnrecordedWriteError) as refused:
        execution.activities.update(status="completed")
    assert str(refused.value) == (
        "Activity.objects.update() would change rows without an event, so no viewer would "
        "learn of it: use executions.recording.changing() or create_execution()"
    )


def test_reading_is_like_any_other_models(execution: Execution) -> None:
    activity = Activity.objects.select_related("execution").get(execution_id=execution.pk)
    assert activity.execution == execution
    assert activity.execution.workflow_definition.definition == {"nodes": []}
    assert [str(row) for row in Execution.objects.filter(activities=activity)] == [execution.pk]
    event = execution.events.get()
    assert event.event_id == execution.head
    assert str(event) == f"{execution.pk} {execution.head}"
    assert str(activity) == "name of ours (ours)"
    assert str(execution.workflow_definition) == f"definition of {execution.pk}"
