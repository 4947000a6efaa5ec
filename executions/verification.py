"""Holding an event log against the document that it tells of. Pure.

A log is folded page by page, so that its length costs time and no memory.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import jsonpatch
import jsonpointer
import msgspec

from executions.document import JsonObject
from executions.events import (
    ActivityPatch,
    CommittedEvent,
    EventMessage,
    FinalSnapshot,
    InitialSnapshot,
)
from executions.identifiers import EventId

PATHS_NAMED: Final = 5
_NOTHING: Final = object()


class LogFold:
    """The fold of one execution's log, fed in order, and what is wrong with it.

    Whatever is found first ends it: what comes after a wrong event proves nothing.
    """

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._last: EventId | None = None
        self._document: JsonObject | None = None
        self._is_closed = False
        self.problem: str | None = None

    @property
    def is_proven(self) -> bool:
        """Whether a kept snapshot was there to begin with: a pruned log may have none."""
        return self._document is not None

    def feed(self, events: Iterable[CommittedEvent]) -> None:
        """Take the next events as the log holds them, from its first kept one on."""
        for event in events:
            if self.problem is None:
                self.problem = self._order_problem(event.event_id) or self._take(event)
                self._last = event.event_id

    def conclude(self, head: EventId, is_final: bool, document: JsonObject) -> None:
        """Compare with the rows, as they were at `head`, up to which the log was fed."""
        if self.problem is None:
            self.problem = self._end_problem(head, is_final, document)

    def _order_problem(self, event_id: EventId) -> str | None:
        if self._last is None:
            return None
        if event_id.sequence != self._last.sequence + 1:
            return f"the log goes on with {event_id} after {self._last}"
        if event_id.milliseconds < self._last.milliseconds:
            return f"{event_id} is older than {self._last} before it"
        if self._is_closed:
            return f"{event_id} comes after the final snapshot"
        return None

    def _take(self, event: CommittedEvent) -> str | None:
        event_id, text = event
        try:
            message: EventMessage = msgspec.json.decode(text, type=EventMessage)
        except msgspec.DecodeError as error:
            return f"the text of {event_id} is no event's: {error}"
        if (message.execution_id, message.event_id) != (self._execution_id, str(event_id)):
            return f"the text of {event_id} names {message.execution_id} {message.event_id}"
        if isinstance(message, InitialSnapshot) != (event_id.sequence == 0):
            return f"{event_id} is of the wrong type"
        if isinstance(message, ActivityPatch):
            return self._apply(event_id, message)
        if isinstance(message, FinalSnapshot):
            return self._close(event_id, message)
        self._document = message.execution
        return None

    def _apply(self, event_id: EventId, patch: ActivityPatch) -> str | None:
        if self._document is None:
            return None
        try:
            # In place: a copy of the document for each event would cost its size each time.
            jsonpatch.apply_patch(self._document, patch.ops, in_place=True)
        except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
            return f"{event_id} does not apply: {error}"
        return None

    def _close(self, event_id: EventId, final: FinalSnapshot) -> str | None:
        self._is_closed = True
        if self._document is None:
            self._document = final.execution
            return None
        return _difference(
            f"the fold and the final snapshot {event_id}", self._document, final.execution
        )

    def _end_problem(self, head: EventId, is_final: bool, document: JsonObject) -> str | None:
        if self._last != head:
            return f"the log ends with {self._last}, the execution's head is {head}"
        if self._is_closed != is_final:
            return f"the execution is {document['status']}, and the log closed: {self._is_closed}"
        if self._document is None:
            return None
        return _difference("the fold of the log and the document", self._document, document)


def differing_paths(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """The JSON pointers at which two JSON values differ, numbers being compared by value."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            escaped = name.replace("~", "~0").replace("/", "~1")
            yield from differing_paths(
                one.get(name, _NOTHING), other.get(name, _NOTHING), f"{path}/{escaped}"
            )
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for position, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differing_paths(left, right, f"{path}/{position}")
    elif isinstance(one, bool) != isinstance(other, bool) or one != other:
        yield path


def _difference(what: str, one: JsonObject, other: JsonObject) -> str | None:
    paths = list(islice(differing_paths(one, other), PATHS_NAMED + 1))
    if not paths:
        return None
    named = ", ".join(paths[:PATHS_NAMED])
    return f"{what} differ at {named}{' and more' if len(paths) > PATHS_NAMED else ''}"
