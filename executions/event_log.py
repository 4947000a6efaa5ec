"""Reading the event log: the truth that streams are rebuilt from.

Any text may be given as an execution's id; one that cannot be one has no events.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

from django.db import connection

from executions.batches import IDS_PER_QUERY, batches
from executions.events import CommittedEvent
from executions.identifiers import EventId, is_execution_id
from executions.models import Event, Execution
from executions.statuses import ExecutionStatus

_DIFFERING: Final = {
    "postgresql": ("json_each_text(%s::json)", "IS DISTINCT FROM"),
    "sqlite": ("json_each(%s)", "IS NOT"),
}
"""By vendor: pairs of a JSON object as rows of key and value, and an inequality of NULL too."""


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


def first_kept(execution_id: str) -> EventId | None:
    """The id of the oldest event that is kept; None where there is no such execution."""
    row = (
        Event.objects.filter(execution_id=execution_id)
        .order_by("sequence")
        .values_list("milliseconds", "sequence")
        .first()
    )
    return None if row is None else EventId(*row)


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


def read_heads(execution_ids: Collection[str]) -> dict[str, Head]:
    """The head of each of these executions; unknown ones are left out."""
    ids = [execution_id for execution_id in execution_ids if is_execution_id(execution_id)]
    heads: dict[str, Head] = {}
    for part in batches(ids):
        rows = Execution.objects.filter(pk__in=part)
        for execution_id, ms, sequence, status in rows.values_list(
            "pk", "head_milliseconds", "head_sequence", "status"
        ):
            heads[execution_id] = Head(EventId(ms, sequence), ExecutionStatus(status).is_final)
    return heads


def differing_heads(known: Mapping[str, EventId | None]) -> dict[str, EventId | None]:
    """The newest event of each of these executions where that is another than the one given.

    None stands for no such execution. Thousands are asked about again and again: where the
    database can, it compares by itself, so that Python's part is what has changed.
    """
    known = {name: event_id for name, event_id in known.items() if is_execution_id(name)}
    if connection.vendor not in _DIFFERING:
        heads = read_heads(known)
        newest = {name: heads[name].event_id if name in heads else None for name in known}
        return {name: head for name, head in newest.items() if head != known[name]}
    each_known, differs_from = _DIFFERING[connection.vendor]
    table = connection.ops.quote_name(Execution._meta.db_table)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT known.key, head_milliseconds, head_sequence "  # noqa: S608 - names of ours
            f"FROM {each_known} AS known LEFT JOIN {table} ON execution_id = known.key "
            f"WHERE (head_milliseconds || '-' || head_sequence) {differs_from} known.value",
            [json.dumps({name: event_id and str(event_id) for name, event_id in known.items()})],
        )
        return {
            name: None if sequence is None else EventId(ms, sequence)
            for name, ms, sequence in cursor.fetchall()
        }


def all_executions() -> Iterator[str]:
    """The ids of all executions, a page at a time, so that no query stays open meanwhile."""
    after = ""
    while page := list(
        Execution.objects.filter(pk__gt=after)
        .order_by("pk")
        .values_list("pk", flat=True)[:IDS_PER_QUERY]
    ):
        yield from page
        after = page[-1]


def heads_changed_since(milliseconds: int) -> Iterator[tuple[str, EventId]]:
    """(execution_id, head) of every execution with an event at or after `milliseconds`."""
    rows = Execution.objects.filter(head_milliseconds__gte=milliseconds)
    for execution_id, ms, sequence in rows.values_list(
        "pk", "head_milliseconds", "head_sequence"
    ).iterator(chunk_size=IDS_PER_QUERY):
        yield execution_id, EventId(ms, sequence)
