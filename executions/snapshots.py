"""Reading an execution's document and head as they were at one instant."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final, NamedTuple, cast

from executions.document import (
    ActivityFields,
    ExecutionFields,
    JsonObject,
    execution_document,
)
from executions.identifiers import EventId, is_execution_id
from executions.models import Execution
from executions.statuses import ExecutionStatus

_EXECUTION_COLUMNS: Final = tuple(ExecutionFields.__annotations__)
_ACTIVITY_COLUMNS: Final = tuple(ActivityFields.__annotations__)
_HEAD_COLUMNS: Final = ("head_milliseconds", "head_sequence")


class Snapshot(NamedTuple):
    """A document, the event_id it is true at, and whether the execution is closed."""

    event_id: EventId
    is_final: bool
    document: JsonObject


def read_snapshot(execution_id: str) -> Snapshot | None:
    """The execution's document and its head, true at one instant; None where there is none.

    One statement reads both: a database shows a statement one state, in autocommit and
    at every isolation level, so no transaction or lock is needed or held.
    """
    if not is_execution_id(execution_id):
        return None
    columns = (*_EXECUTION_COLUMNS, *_HEAD_COLUMNS)
    rows = list(
        Execution.objects.filter(pk=execution_id)
        .order_by("activities__position")
        .values_list(*columns, *(f"activities__{name}" for name in _ACTIVITY_COLUMNS))
    )
    if not rows:
        return None
    execution = cast(ExecutionFields, _row(_EXECUTION_COLUMNS, rows[0]))
    milliseconds, sequence = rows[0][len(_EXECUTION_COLUMNS) : len(columns)]
    activities = [
        cast(ActivityFields, _row(_ACTIVITY_COLUMNS, row[len(columns) :]))
        for row in rows
        if row[len(columns)] is not None
    ]
    return Snapshot(
        EventId(milliseconds, sequence),
        ExecutionStatus(execution.status).is_final,
        execution_document(execution, activities),
    )


def _row(columns: Sequence[str], values: Sequence[Any]) -> SimpleNamespace:
    return SimpleNamespace(**dict(zip(columns, values, strict=False)))
