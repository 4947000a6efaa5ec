"""Reading the event log: the truth that streams are rebuilt from."""

from collections.abc import Collection, Iterator
from typing import Final

from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Event, Execution

IDS_PER_QUERY: Final = 500


def read_events(execution_id: str, after: int, limit: int) -> list[CommittedEvent]:
    """The events with a sequence above `after`, oldest first, `limit` at most."""
    rows = (
        Event.objects.filter(execution_id=execution_id, sequence__gt=after)
        .order_by("sequence")
        .values_list("milliseconds", "sequence", "message")[:limit]
    )
    return [CommittedEvent(EventId(ms, sequence), message) for ms, sequence, message in rows]


def find_event_id(execution_id: str, sequence: int) -> EventId | None:
    """The id of the event with this sequence, or None where it is not kept (or not yet there)."""
    milliseconds = (
        Event.objects.filter(execution_id=execution_id, sequence=sequence)
        .values_list("milliseconds", flat=True)
        .first()
    )
    return None if milliseconds is None else EventId(milliseconds, sequence)


def read_heads(execution_ids: Collection[str]) -> dict[str, EventId]:
    """The head of each of these executions; unknown ones are left out."""
    ids = list(execution_ids)
    heads: dict[str, EventId] = {}
    for start in range(0, len(ids), IDS_PER_QUERY):
        rows = Execution.objects.filter(pk__in=ids[start : start + IDS_PER_QUERY])
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
