"""Deciding where a connection's stream begins, from its `replay` parameter. Pure."""

from dataclasses import dataclass
from enum import Enum, auto

from executions.identifiers import EVENT_ID_FORM, EventId, MalformedEventIdError
from streaming.schemas.visualization import ResyncReason


class MalformedReplayError(ValueError):
    """The `replay` parameter is wrong; the message says what is accepted."""


class Wanted(Enum):
    """What a connection without a cursor asks for."""

    NOW = auto()
    FROM_THE_BEGINNING = auto()


@dataclass(frozen=True)
class SnapshotOfNow:
    """Begin with the document as it is, telling why if it stands for missed events."""

    resync: ResyncReason | None = None


@dataclass(frozen=True)
class EventsAfter:
    """Begin with the event after `cursor`; None: with the very first."""

    cursor: EventId | None


Start = SnapshotOfNow | EventsAfter


def parse_replay(given: list[str]) -> Wanted | EventId:
    """Read the values of the `replay` parameter; raises MalformedReplayError."""
    if not given:
        return Wanted.NOW
    if given == ["0"]:
        return Wanted.FROM_THE_BEGINNING
    try:
        if len(given) == 1:
            return EventId.parse(given[0])
    except MalformedEventIdError:
        pass
    raise MalformedReplayError(f"replay must be 0 or one event_id ({EVENT_ID_FORM})")


def first_sequence_needed(wanted: Wanted | EventId) -> int | None:
    """The sequence of the event that must still be kept for this wish; None: of none."""
    if wanted is Wanted.NOW:
        return None
    return 0 if isinstance(wanted, Wanted) else wanted.sequence


def decide_start(wanted: Wanted | EventId, head: EventId, kept: EventId | None) -> Start:
    """Where to begin.

    `kept` is the id of the kept event with the sequence `first_sequence_needed` names,
    None where there is none.
    """
    if wanted is Wanted.NOW:
        return SnapshotOfNow()
    if isinstance(wanted, Wanted):
        return SnapshotOfNow("trimmed") if kept is None else EventsAfter(None)
    if kept == wanted:
        return EventsAfter(wanted)
    if kept is None and wanted.sequence <= head.sequence:
        return SnapshotOfNow("trimmed")
    return SnapshotOfNow("unknown")
