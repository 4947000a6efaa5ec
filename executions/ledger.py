"""Writing what is known of activities beyond the document: attempts, payloads, points.

Every function needs the open transaction of a `recording.changing()` on the execution,
whose lock orders the writers of one execution's ledger. Nothing here makes an event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from executions.attempts import AttemptNote, AttemptOutcome, merged, superseded
from executions.document import JsonObject
from executions.models import ActivityDetails, Attempt, Point

_COLUMNS: Final = tuple(
    each.name
    for each in fields(AttemptNote)
    if each.name not in ("activity_id", "number", "is_true")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailsNote:
    """What an activity was scheduled with; `input` as `shown payloads`."""

    activity_id: str
    engine_activity_id: str
    task_queue: str = ""
    options: JsonObject = field(default_factory=dict)
    input: list[JsonObject] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointNote:
    engine_event_id: int
    at: datetime
    kind: str
    name: str = ""
    details: JsonObject | None = None


def note_attempts(execution_id: str, notes: Sequence[AttemptNote]) -> None:
    """Merge notes into the ledger, in order: one read and one write, however many there are."""
    if not notes:
        return
    numbers = {number for note in notes for number in (note.number, note.number - 1)}
    rows = Attempt.objects.filter(
        execution_id=execution_id,
        activity_id__in={note.activity_id for note in notes},
        number__in=numbers,
    )
    known = {(row.activity_id, row.number): _note_of(row) for row in rows}
    before = dict(known)
    for note in notes:
        key = (note.activity_id, note.number)
        blank = AttemptNote(activity_id=note.activity_id, number=note.number)
        known[key] = merged(known.get(key, blank), note)
        earlier = (note.activity_id, note.number - 1)
        if earlier in known:
            known[earlier] = superseded(known[earlier])
    Attempt.unrecorded_writes.bulk_create(
        (_row_of(execution_id, note) for key, note in known.items() if before.get(key) != note),
        update_conflicts=True,
        unique_fields=["execution", "activity_id", "number"],
        update_fields=_COLUMNS,
    )


def note_details(execution_id: str, notes: Iterable[DetailsNote]) -> None:
    """Keep what activities were scheduled with; what is kept already stays as it is."""
    ActivityDetails.unrecorded_writes.bulk_create(
        (ActivityDetails(execution_id=execution_id, **_columns_of(note)) for note in notes),
        ignore_conflicts=True,
    )


def note_output(execution_id: str, activity_id: str, output: list[JsonObject]) -> None:
    """Keep what an activity returned."""
    ActivityDetails.unrecorded_writes.filter(
        execution_id=execution_id, activity_id=activity_id
    ).update(output=output)


def note_points(execution_id: str, notes: Iterable[PointNote]) -> None:
    """Keep points of the run; one that is kept already stays as it is."""
    Point.unrecorded_writes.bulk_create(
        (Point(execution_id=execution_id, **_columns_of(note)) for note in notes),
        ignore_conflicts=True,
    )


def newest_point(execution_id: str) -> int:
    """The engine's id of the newest point kept; 0 where there is none."""
    ids = Point.objects.filter(execution_id=execution_id).values_list("engine_event_id", flat=True)
    return ids.order_by("-engine_event_id").first() or 0


def _columns_of(note: DetailsNote | PointNote) -> dict[str, Any]:
    """A note's fields are its row's columns."""
    return {each.name: getattr(note, each.name) for each in fields(note)}


def _note_of(row: Attempt) -> AttemptNote:
    known: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS}
    known["outcome"] = AttemptOutcome(row.outcome)
    return AttemptNote(activity_id=row.activity_id, number=row.number, **known)


def _row_of(execution_id: str, note: AttemptNote) -> Attempt:
    return Attempt(
        execution_id=execution_id,
        activity_id=note.activity_id,
        number=note.number,
        **{name: getattr(note, name) for name in _COLUMNS},
    )
