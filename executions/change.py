"""One change in the making: what its caller touched, and the events that come of it.

Needs an open transaction that holds the execution's row; `executions.recording` sees to
that, and is the only caller.
"""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Any

from django.db import IntegrityError
from django.db.models import Max

from executions import document, events, patches, values
from executions.batches import batches
from executions.errors import RecordingError
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Activity, Event, Execution
from executions.statements import RowReader, Statement, insert, run_together, update
from executions.statuses import (
    ActivityStatus,
    ExecutionStatus,
    PendingState,
    TransitionRefusedError,
    check_activity_transition,
    check_execution_transition,
)


class UnknownActivityError(RecordingError):
    """The execution has no activity of this id."""


class ActivityExistsError(RecordingError, IntegrityError):
    """The execution already has an activity of this id; Django's get_or_create() reads it then."""


class ExecutionClosedError(TransitionRefusedError):
    """The execution has a final status: nothing of it changes any more."""


@dataclass(frozen=True, kw_only=True)
class NewActivity:
    """An activity to be added; fields as in the document, `attempt` counted from 1."""

    activity_id: str
    activity_name: str
    activity_type: str = "activity"
    status: ActivityStatus = ActivityStatus.PENDING
    pending_state: PendingState | None = None
    attempt: int = 1
    next_attempt_at: datetime | None = None
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error_details: Mapping[str, Any] | None = None
    depends_on: Sequence[str] = ()
    progress: float | None = None
    child_execution_id: str | None = None


class Change:
    """What a caller of `recording.changing()` works on.

    Assign to `execution` and to the activities handed out here; leaving the block
    records what differs. Fields are those of the models.
    """

    def __init__(self, execution: Execution) -> None:
        self.execution = execution
        self._head = execution.head
        self._touched: dict[str, Activity] = {}
        self._added: dict[str, Activity] = {}
        self._missing: set[str] = set()
        self._next_position: int | None = None

    def find_activity(self, activity_id: str) -> Activity | None:
        """The activity of this id, to be changed, or None."""
        stored = values.storable_text(activity_id)
        if stored in self._added:
            return self._added[stored]
        if stored in self._missing:
            return None
        if stored not in self._touched:
            row = _activity_reader().read(self.execution.loaded_value("execution_id"), stored)
            if row is None:
                return None
            self._touched[stored] = row
        return self._touched[stored]

    def activity(self, activity_id: str) -> Activity:
        """The activity of this id, to be changed; raises UnknownActivityError."""
        found = self.find_activity(activity_id)
        if found is None:
            raise UnknownActivityError(
                f"execution {self.execution.execution_id} has no activity {activity_id!r}"
            )
        return found

    def load_activities(self, activity_ids: Collection[str]) -> None:
        """Read these activities at once, so that finding each costs no query of its own."""
        wanted = {values.storable_text(name) for name in activity_ids} - self._touched.keys()
        for part in batches(sorted(wanted - self._added.keys())):
            for row in self._activity_rows().filter(activity_id__in=part):
                self._touched[row.activity_id] = row
        self._missing |= wanted - self._touched.keys()

    def activities(self) -> list[Activity]:
        """All activities in the order of their positions. Reads them all: its cost is theirs."""
        for row in self._activity_rows().order_by("position"):
            self._touched.setdefault(row.activity_id, row)
        by_position = sorted(self._touched.values(), key=_position)
        return by_position + list(self._added.values())

    def add_activity(self, new: NewActivity) -> Activity:
        """Append an activity at the next position; it may be changed further in this block."""
        if self._next_position is None:
            last = self._activity_rows().aggregate(Max("position"))["position__max"]
            self._next_position = 0 if last is None else last + 1
        row = built_activity(self.execution, self._next_position, new)
        if row.activity_id in self._added:
            raise ActivityExistsError(f"activity {row.activity_id!r} is added twice")
        self._next_position += 1
        self._added[row.activity_id] = row
        return row

    def record(self) -> tuple[CommittedEvent, ...]:
        """Check and write everything that differs; the events written, none if nothing does."""
        operations: list[patches.Operation] = []
        changed = [activity for activity in self._touched.values() if _differs(activity)]
        for activity in changed:
            operations += patches.replace_changed(
                patches.activity_path(_position(activity)),
                document.activity_document(activity.as_loaded()),
                document.activity_document(activity),
            )
        for row in self._added.values():
            clean_activity(row)
            _check_fixed(row)
            operations.append(
                patches.append_activity(row.position, document.activity_document(row))
            )
        if not self.execution.is_as_loaded:
            clean_execution(self.execution)
            operations += patches.replace_changed(
                "",
                document.execution_fields(self.execution.as_loaded()),
                document.execution_fields(self.execution),
            )
        if not operations:
            return ()
        self._check_execution()
        for activity in changed:
            _check_activity(activity)
        insert_activities(self._added.values())
        written = self._write(changed, operations)
        self._remember_written(changed)
        return written

    def _activity_rows(self) -> Any:
        return Activity.objects.filter(execution_id=self.execution.pk)

    def _check_execution(self) -> None:
        execution = self.execution
        for name in ("execution_id", "created_at"):
            if getattr(execution, name) != execution.loaded_value(name):
                raise values.UnacceptableValueError(name, "of an execution never changes")
        before = ExecutionStatus(execution.loaded_value("status"))
        if before.is_final:
            raise ExecutionClosedError(
                f"execution {execution.execution_id} is {before}: nothing of it changes any more"
            )
        check_execution_transition(before, ExecutionStatus(execution.status))

    def _write(
        self, changed: Iterable[Activity], operations: list[patches.Operation]
    ) -> tuple[CommittedEvent, ...]:
        execution = self.execution
        patch_id = next_event_id(self._head)
        message = events.activity_patch(execution.execution_id, patch_id, operations)
        written = [CommittedEvent(patch_id, events.encode(message))]
        execution.head_milliseconds, execution.head_sequence = patch_id
        closes = ExecutionStatus(execution.status).is_final
        if closes:
            execution.head_sequence += 1
        updates = [update(row, row.changed_values()) for row in (*changed, execution)]
        if closes:
            # The final snapshot is read from the rows as they are to be.
            run_together(updates)
            updates = []
            written.append(closing_event(execution, self._activity_rows().order_by("position")))
        run_together([*updates, *event_inserts(execution, written)])
        return tuple(written)

    def _remember_written(self, changed: Iterable[Activity]) -> None:
        """What was handed out may be changed further, and saved, after the block."""
        for row in (self.execution, *self._added.values(), *changed):
            row.remember_loaded()


def next_event_id(head: EventId) -> EventId:
    """The id after `head`: the sequence is dense, the milliseconds never go back."""
    return EventId(max(time.time_ns() // 1_000_000, head.milliseconds), head.sequence + 1)


def closing_event(execution: Execution, activities: Iterable[Activity]) -> CommittedEvent:
    """The final snapshot, at the execution's head."""
    whole = document.execution_document(execution, activities)
    message = events.final_snapshot(execution.execution_id, execution.head, whole)
    return CommittedEvent(execution.head, events.encode(message))


def event_inserts(execution: Execution, written: Iterable[CommittedEvent]) -> list[Statement]:
    """What adds events to the log; the same transaction is to move the execution's head."""
    return [
        insert(
            Event(
                execution=execution,
                sequence=event_id.sequence,
                milliseconds=event_id.milliseconds,
                message=message,
            )
        )
        for event_id, message in written
    ]


def built_activity(execution: Execution, position: int, new: NewActivity) -> Activity:
    """The unsaved, cleaned row of a new activity."""
    row = Activity(
        execution=execution,
        position=position,
        activity_id=new.activity_id,
        activity_name=new.activity_name,
        activity_type=new.activity_type,
        status=new.status,
        pending_state=new.pending_state,
        attempt=new.attempt,
        next_attempt_at=new.next_attempt_at,
        scheduled_at=new.scheduled_at,
        started_at=new.started_at,
        completed_at=new.completed_at,
        error_details=new.error_details,
        depends_on=new.depends_on,
        progress=new.progress,
        child_execution_id=new.child_execution_id,
    )
    clean_activity(row)
    row.remember_loaded()
    return row


def insert_activities(rows: Iterable[Activity]) -> None:
    """Insert new rows; raises ActivityExistsError, after which the transaction is void."""
    added = list(rows)
    try:
        Activity.unrecorded_writes.bulk_create(added)
    except IntegrityError as error:
        names = ", ".join(repr(row.activity_id) for row in added[:5])
        raise ActivityExistsError(
            f"execution {added[0].execution_id} already has an activity of an id among {names}"
        ) from error


def clean_execution(execution: Execution) -> None:
    """Bring the fields into storable form; raises UnacceptableValueError."""
    execution.workflow_id = values.clean_name("workflow_id", execution.workflow_id)
    execution.workflow_type = values.clean_name("workflow_type", execution.workflow_type)
    if execution.run_id is not None:
        execution.run_id = values.clean_name("run_id", execution.run_id)
    execution.status = _clean_choice(ExecutionStatus, "status", execution.status)
    created_at = values.clean_moment("created_at", execution.created_at)
    if created_at is None:
        raise values.UnacceptableValueError("created_at", "must be a moment, not None")
    execution.created_at = created_at
    execution.started_at = values.clean_moment("started_at", execution.started_at)
    execution.completed_at = values.clean_moment("completed_at", execution.completed_at)
    execution.error_details = values.clean_error_details("error_details", execution.error_details)
    for name in ("parent_execution_id", "previous_execution_id", "next_execution_id"):
        setattr(execution, name, values.clean_link(name, getattr(execution, name)))
    execution.latest_point = values.clean_point("latest_point", execution.latest_point)


def clean_activity(activity: Activity) -> None:
    """Bring the fields into storable form; raises UnacceptableValueError."""
    activity.activity_id = values.clean_name("activity_id", activity.activity_id)
    activity.activity_name = values.clean_name("activity_name", activity.activity_name)
    activity.activity_type = values.clean_name("activity_type", activity.activity_type)
    activity.status = _clean_choice(ActivityStatus, "status", activity.status)
    if activity.pending_state is not None:
        activity.pending_state = _clean_choice(
            PendingState, "pending_state", activity.pending_state
        )
    activity.attempt = values.clean_attempt("attempt", activity.attempt)
    activity.next_attempt_at = values.clean_moment("next_attempt_at", activity.next_attempt_at)
    activity.scheduled_at = values.clean_moment("scheduled_at", activity.scheduled_at)
    activity.started_at = values.clean_moment("started_at", activity.started_at)
    activity.completed_at = values.clean_moment("completed_at", activity.completed_at)
    activity.error_details = values.clean_error_details("error_details", activity.error_details)
    activity.depends_on = values.clean_depends_on("depends_on", activity.depends_on)
    activity.progress = values.clean_progress("progress", activity.progress)
    activity.child_execution_id = values.clean_link(
        "child_execution_id", activity.child_execution_id
    )


def _clean_choice(kind: type[StrEnum], field: str, value: str) -> str:
    accepted = list(kind)
    if value not in accepted:
        raise values.UnacceptableValueError(field, f"must be one of {', '.join(accepted)}")
    return str(value)


@cache
def _activity_reader() -> RowReader[Activity]:
    return RowReader(Activity.objects.filter(execution_id="").filter(activity_id=""))


def _position(activity: Activity) -> int:
    position: int = activity.loaded_value("position")
    return position


def _differs(activity: Activity) -> bool:
    """Whether the activity, cleaned, differs from what was handed out."""
    if activity.is_as_loaded:
        return False
    clean_activity(activity)
    _check_fixed(activity)
    return bool(activity.changed_values())


def _check_fixed(activity: Activity) -> None:
    for name in ("id", "activity_id", "position", "execution_id"):
        if getattr(activity, name) != activity.loaded_value(name):
            raise values.UnacceptableValueError(name, "of an activity never changes")


def _check_activity(activity: Activity) -> None:
    check_activity_transition(
        (activity.loaded_value("attempt"), ActivityStatus(activity.loaded_value("status"))),
        (activity.attempt, ActivityStatus(activity.status)),
    )
