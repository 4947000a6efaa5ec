"""Reading the event log: the truth that streams are rebuilt from.

Any text may be given as an execution's id; one that cannot be one has no events.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

from executions.batches import IDS_PER_QUERY, batches
from executions.events import CommittedEvent
from executions.identifiers import EventId, is_execution_id
from executions.models import Event, Execution
from executions.statuses import ExecutionStatus


def read_events(execution_id: str, after: int, limit: int) -> list[CommittedEvent]:
    """The events with a sequence above `after`, oldest first, `limit` at most."""
    if not is_execution_id(execution_id):
        return []
    rows = (
        Event.objects.filter(execution_id=execution_id, sequence__gt=after)
        .order_by("sequence")
        .values_list("milliseconds", "sequence", "message")[:limit]
    )
    return [CommittedEvent(EventId(ms, sequence), message) for ms, sequence, message in rows]


def find_event_id(execution_id: str, sequence: int) -> EventId | None:
    """The id of the event with this sequence, or None where it is not kept (or not yet there)."""
    if not is_execution_id(execution_id):
        return None
    milliseconds = (
        Event.objects.filter(execution_id=execution_id, sequence=sequence)
        .values_list("milliseconds", flat=True)
        .first()
    )
    return None if milliseconds is None else EventId(milliseconds, sequence)


class Head(NamedTuple):
    """An execution's newest event, and whether it is the last there will be."""

    event_id: EventId
    is_final: bool


def read_head(execution_id: str) -> Head | None:
    """The execution's head; None where there is no such execution."""
    row = (
        Execution.objects.filter(pk=execution_id)
        .values_list("head_milliseconds", "head_sequence", "status")
        .first()
    )
    if row is None:
        return None
    milliseconds, sequence, status = row
    return Head(EventId(milliseconds, sequence), ExecutionStatus(status).is_final)


def read_heads(execution_ids: Collection[str]) -> dict[str, EventId]:
    """The head of each of these executions; unknown ones are left out."""
    ids = [execution_id for execution_id in execution_ids if is_execution_id(execution_id)]
    heads: dict[str, EventId] = {}
    for part in batches(ids):
        rows = Execution.objects.filter(pk__in=part)
        for execution_id, ms, sequence in rows.values_list(
            "pk", "head_milliseconds", "head_sequence"
        ):
            heads[execution_id] = EventId(ms, sequence)
    return heads


def heads_changed_since(milliseconds: int) -> Iterator[tuple[str, EventId]]:
    """(execution_id, head) of every execution with an event at or after `milliseconds`."""
    rows = Execution.objects.filter(head_milliseconds__gte=milliseconds)
    for execution_id, ms, sequence in rows.values_list(
        "pk", "head_milliseconds", "head_sequence"
    ).iterator(chunk_size=IDS_PER_QUERY):
        yield execution_id, EventId(ms, sequence)
