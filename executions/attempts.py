"""The ledger's rules: what is known of an attempt, and what a further note makes of it. Pure.

An attempt is told of by several sources, late, twice or not at all. What is true (a
run's history) replaces what was said before; anything else fills what was not known yet.
"""

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

JsonObject = dict[str, Any]


class AttemptOutcome(StrEnum):
    """How an attempt ended; `unknown` where a later one began and nobody saw this one's end."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def is_known_end(self) -> bool:
        return self not in (AttemptOutcome.RUNNING, AttemptOutcome.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptNote:
    """What one source says of one attempt; None (or "") where it says nothing.

    `failure` is `{"type", "message", "stack_trace"}`; `heartbeat_details` a list of shown
    payloads; `is_true` says that the source is a run's history.
    """

    activity_id: str
    number: int
    outcome: AttemptOutcome = AttemptOutcome.RUNNING
    worker_identity: str = ""
    scheduled_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: JsonObject | None = None
    next_attempt_at: datetime | None = None
    heartbeat_at: datetime | None = None
    heartbeat_details: list[JsonObject] | None = None
    is_true: bool = False


_NEWEST_COUNTS: Final = ("heartbeat_at", "heartbeat_details")
_KEPT: Final = tuple(
    field.name
    for field in fields(AttemptNote)
    if field.name not in ("activity_id", "number", "outcome", "is_true", *_NEWEST_COUNTS)
)


def merged(known: AttemptNote, told: AttemptNote) -> AttemptNote:
    """What is known of the attempt once `told` has been heard too."""
    changes: dict[str, Any] = {
        name: value
        for name in _KEPT
        if (value := getattr(told, name)) and (told.is_true or not getattr(known, name))
    }
    if told.heartbeat_at and (known.heartbeat_at is None or told.heartbeat_at > known.heartbeat_at):
        changes |= {name: getattr(told, name) for name in _NEWEST_COUNTS}
    if told.outcome.is_known_end and (told.is_true or not known.outcome.is_known_end):
        changes["outcome"] = told.outcome
    known = replace(known, **changes)
    return superseded(known) if told.outcome is AttemptOutcome.UNKNOWN else known


def superseded(known: AttemptNote) -> AttemptNote:
    """What is known of an attempt once a later one of its activity has been heard of."""
    if known.outcome is AttemptOutcome.RUNNING:
        return replace(known, outcome=AttemptOutcome.UNKNOWN)
    return known
