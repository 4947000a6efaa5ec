"""Holding a stream's entries against the event log. Pure."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from executions.events import CommittedEvent

Entry = tuple[str, Mapping[str, str]]
"""A stream's entry: its id and its fields."""


def first_difference(entries: Sequence[Entry], events: Sequence[CommittedEvent]) -> str | None:
    """Where the entries are not these events, each once and in order; None where they are."""
    for entry, event in zip_longest(entries, events):
        if event is None:
            return f"the entry {entry[0]} is not in the event log"
        if entry is None:
            return f"the event {event.event_id} is missing"
        if entry[0] != str(event.event_id):
            return f"the entry {entry[0]} is in the place of the event {event.event_id}"
        if dict(entry[1]) != {"message": event.message}:
            return f"the entry {entry[0]} says something else than the event log"
    return None
