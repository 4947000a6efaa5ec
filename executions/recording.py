"""The one write path: every change of an execution becomes one committed event.

`changing()` opens a transaction, locks the execution's row and lets its caller change
objects; on leaving it checks the transitions, makes the patch from the fields that
differ, gives it the next sequence and writes rows and event together. After the commit
`signals.events_committed` is sent. The cost follows what changed, except at the end of
an execution, whose final snapshot reads the whole document once.

Everything raised here is a RecordingError, and leaves nothing written.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache, partial
from typing import Any, Final

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone

from executions import document, events, values
from executions.change import (
    ActivityExistsError,
    Change,
    ExecutionClosedError,
    NewActivity,
    UnknownActivityError,
    built_activity,
    clean_execution,
    closing_event,
    event_inserts,
    insert_activities,
    next_event_id,
)
from executions.errors import RecordingError
from executions.events import CommittedEvent
from executions.identifiers import EXECUTION_ID_FORM, EventId, is_execution_id
from executions.models import Activity, Execution, WorkflowDefinition
from executions.recorded_rows import SavedThroughRecording
from executions.signals import events_committed
from executions.statements import RowReader, run_together
from executions.statuses import ExecutionStatus, TransitionRefusedError
from executions.values import UnacceptableValueError

__all__ = [
    "ActivityExistsError",
    "AlreadyChangingError",
    "Change",
    "ExecutionClosedError",
    "ExecutionExistsError",
    "NewActivity",
    "RecordingError",
    "TransitionRefusedError",
    "UnacceptableValueError",
    "UnknownActivityError",
    "UnknownExecutionError",
    "changing",
    "create_execution",
    "ensure_execution",
    "record_saved",
]

_BEFORE_THE_FIRST: Final = EventId(0, -1)

_being_changed: ContextVar[frozenset[str]] = ContextVar("being_changed", default=frozenset())


class UnknownExecutionError(RecordingError):
    """There is no execution of this id."""


class ExecutionExistsError(RecordingError, IntegrityError):
    """There is an execution of this id already; Django's get_or_create() reads it then."""


class AlreadyChangingError(RecordingError):
    """The execution is being changed by this very code, further up."""


@contextmanager
def changing(execution_id: str) -> Iterator[Change]:
    """Change one execution; on leaving, the change is one event, or none if nothing differs.

    Opens a transaction, or joins the caller's: then the event is committed, and told to
    viewers, when the caller's transaction is. Writers of one execution wait for each
    other. An exception inside leaves nothing written. Raises UnknownExecutionError,
    AlreadyChangingError, and on leaving TransitionRefusedError, ExecutionClosedError,
    UnacceptableValueError, ActivityExistsError.
    """
    if not is_execution_id(execution_id):
        raise UnknownExecutionError(
            f"there is no execution {execution_id!r}: ids have the form {EXECUTION_ID_FORM}"
        )
    # The mark ends before the commit: a receiver of the signal may change this execution.
    with transaction.atomic(), _marked_as_being_changed(execution_id):
        execution = _locking_reader().read(execution_id)
        if execution is None:
            raise UnknownExecutionError(f"there is no execution {execution_id!r}")
        previous = execution.head
        change = Change(execution)
        yield change
        _announce_after_commit(execution_id, previous, change.record())


def create_execution(
    *,
    workflow_id: str,
    workflow_type: str,
    execution_id: str | None = None,
    run_id: str | None = None,
    status: ExecutionStatus = ExecutionStatus.PENDING,
    created_at: datetime | None = None,
    started_at: datetime | None = None,
    completed_at: datetime | None = None,
    error_details: Mapping[str, Any] | None = None,
    parent_execution_id: str | None = None,
    previous_execution_id: str | None = None,
    next_execution_id: str | None = None,
    latest_point: Mapping[str, Any] | None = None,
    activities: Sequence[NewActivity] = (),
    workflow_definition: Any = None,
) -> Execution:
    """Create an execution; its initial snapshot is event 0.

    `execution_id` is a new UUID unless given. `workflow_definition` is any JSON value of
    at most `values.DEFINITION_BYTES`. Opens a transaction, or joins the caller's. Raises
    ExecutionExistsError, ActivityExistsError, UnacceptableValueError.
    """
    execution = Execution(
        workflow_id=workflow_id,
        workflow_type=workflow_type,
        run_id=run_id,
        status=status,
        created_at=created_at or timezone.now(),
        started_at=started_at,
        completed_at=completed_at,
        error_details=error_details,
        parent_execution_id=parent_execution_id,
        previous_execution_id=previous_execution_id,
        next_execution_id=next_execution_id,
        latest_point=latest_point,
        **({} if execution_id is None else {"execution_id": execution_id}),
    )
    if not is_execution_id(execution.execution_id):
        raise UnacceptableValueError("execution_id", f"must have the form {EXECUTION_ID_FORM}")
    clean_execution(execution)
    definition = _clean_definition(workflow_definition)
    rows = [built_activity(execution, position, new) for position, new in enumerate(activities)]
    first_id = next_event_id(_BEFORE_THE_FIRST)
    first = events.initial_snapshot(
        execution.execution_id, first_id, document.execution_document(execution, rows)
    )
    written = [CommittedEvent(first_id, events.encode(first))]
    closes = ExecutionStatus(execution.status).is_final
    execution.head_milliseconds = first_id.milliseconds
    execution.head_sequence = first_id.sequence + closes
    with transaction.atomic():
        try:
            Execution.unrecorded_writes.bulk_create([execution])
        except IntegrityError as error:
            raise ExecutionExistsError(
                f"there is an execution {execution.execution_id} already"
            ) from error
        if rows:
            insert_activities(rows)
        if definition is not None:
            WorkflowDefinition.unrecorded_writes.bulk_create(
                [WorkflowDefinition(execution=execution, definition=definition)]
            )
        if closes:
            written.append(closing_event(execution, rows))
        run_together(event_inserts(execution, written))
        _announce_after_commit(execution.execution_id, None, tuple(written))
    execution.remember_loaded()
    return execution


def ensure_execution(*, execution_id: str, **fields: Any) -> tuple[Execution, bool]:
    """The execution of this id, created with `fields` (as create_execution) if there is none.

    Returns it and whether it was created. Any number of processes may call this at once.
    """
    if is_execution_id(execution_id):
        existing = Execution.objects.filter(pk=execution_id).first()
        if existing is not None:
            return existing, False
    try:
        return create_execution(execution_id=execution_id, **fields), True
    except ExecutionExistsError:
        return Execution.objects.get(pk=execution_id), False


def record_saved(row: SavedThroughRecording, update_fields: Iterable[str] | None) -> None:
    """What `save()` does: record the fields set on `row` since it was loaded.

    Those not among `update_fields` stay as they are, to be saved another time. Opens a
    transaction, or joins the caller's; raises as `changing` and `create_execution`, and
    ValueError where `update_fields` names no field.
    """
    held_back: dict[str, Any] = {}
    if not row._state.adding:
        changed = row.changed_values()
        if update_fields is not None:
            named = _attribute_names(row, update_fields)
            held_back = {name: changed.pop(name) for name in changed.keys() - named}
        recorded = _record_changed(row, changed)
    elif isinstance(row, Execution):
        recorded = create_execution(**_values_of(row, document.ExecutionFields))
    elif isinstance(row, Activity):
        with changing(row.execution_id) as change:
            recorded = change.add_activity(NewActivity(**_values_of(row, document.ActivityFields)))
    else:
        raise TypeError(f"{type(row).__name__} is not recorded")
    row.take_over(recorded)
    for name, value in held_back.items():
        setattr(row, name, value)


def _record_changed(row: SavedThroughRecording, changed: dict[str, Any]) -> SavedThroughRecording:
    with changing(row.loaded_value("execution_id")) as change:
        target: SavedThroughRecording = (
            change.execution
            if isinstance(row, Execution)
            else change.activity(row.loaded_value("activity_id"))
        )
        for name, value in changed.items():
            setattr(target, name, value)
    return target


def _attribute_names(row: SavedThroughRecording, names: Iterable[str]) -> set[str]:
    known = {
        name: field.attname
        for field in row._meta.concrete_fields
        for name in (field.name, field.attname)
    }
    wanted = set(names)
    if unknown := wanted - known.keys():
        raise ValueError(
            f"update_fields names no fields of {type(row).__name__}: {sorted(unknown)}"
        )
    return {known[name] for name in wanted}


def _values_of(row: SavedThroughRecording, fields: type) -> dict[str, Any]:
    return {name: getattr(row, name) for name in fields.__annotations__}


def _clean_definition(definition: Any) -> Any:
    try:
        cleaned = values.storable_json(definition)
        size = len(msgspec.json.encode(cleaned))
    except (TypeError, ValueError, RecursionError) as error:
        raise UnacceptableValueError(
            "workflow_definition", f"must be JSON data: {error}"
        ) from error
    if size > values.DEFINITION_BYTES:
        raise UnacceptableValueError(
            "workflow_definition",
            f"has {size} bytes as JSON; at most {values.DEFINITION_BYTES} are accepted",
        )
    return cleaned


@cache
def _locking_reader() -> RowReader[Execution]:
    return RowReader(Execution.objects.select_for_update().filter(pk=""))


@contextmanager
def _marked_as_being_changed(execution_id: str) -> Iterator[None]:
    others = _being_changed.get()
    if execution_id in others:
        raise AlreadyChangingError(
            f"execution {execution_id} is being changed by an enclosing changing(): "
            "make the change on that one, and do not call save() inside it"
        )
    token = _being_changed.set(others | {execution_id})
    try:
        yield
    finally:
        _being_changed.reset(token)


def _announce_after_commit(
    execution_id: str, previous: EventId | None, written: tuple[CommittedEvent, ...]
) -> None:
    if written:
        send = partial(
            events_committed.send_robust,
            sender=Execution,
            execution_id=execution_id,
            events=written,
            previous=previous,
        )
        transaction.on_commit(send, robust=True)
