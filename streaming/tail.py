"""Deciding what to do with an event that is offered to a reader. Pure.

A reader has applied everything up to its cursor. Events are offered to it from several
sources, some of them twice, late, or not at all: the tail says which to send.
"""

from enum import Enum, auto

from executions.identifiers import EventId


class Verdict(Enum):
    """What to do with an offered event."""

    SEND = auto()
    ALREADY_SENT = auto()
    SOMETHING_IS_MISSING = auto()
    CONTRADICTION = auto()
    """It and the last event sent cannot both be in the execution's log."""


class Tail:
    """What one reader was sent, as a cursor: None before the very first event."""

    def __init__(self, cursor: EventId | None) -> None:
        self.cursor = cursor

    @property
    def sequence(self) -> int:
        """The sequence of the last event sent; -1 before the first."""
        return -1 if self.cursor is None else self.cursor.sequence

    def offer(self, event_id: EventId) -> Verdict:
        """Decide on an event; SEND advances the cursor, so the caller must send it."""
        if self.is_next(event_id):
            self.cursor = event_id
            return Verdict.SEND
        if self.cursor is not None and event_id.contradicts(self.cursor):
            return Verdict.CONTRADICTION
        if event_id.sequence <= self.sequence:
            return Verdict.ALREADY_SENT
        return Verdict.SOMETHING_IS_MISSING

    def is_next(self, event_id: EventId) -> bool:
        """Whether the verdict on the event is to send it."""
        cursor = self.cursor
        if cursor is None:
            return event_id.sequence == 0
        return event_id.sequence == cursor.sequence + 1 and (
            event_id.milliseconds >= cursor.milliseconds
        )

    def lacks(self, event_id: EventId | None) -> bool:
        """Whether this event is still to be sent."""
        return event_id is not None and event_id.sequence > self.sequence
