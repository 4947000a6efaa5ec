"""Proving that what viewers are told is what the database holds.

`assert_patches_tell_the_truth` goes around the act of every test that writes:

    with assert_patches_tell_the_truth(execution_id) as told:
        with changing(execution_id) as change:
            change.activity("fetch").status = ActivityStatus.RUNNING
    assert told.operations == [{"op": "replace", "path": "/activities/0/status", ...}]

`assert_log_is_whole` looks at an execution's whole history, whoever wrote it; it is what
tests with several processes call at their end. Both need a real transaction
(`@pytest.mark.django_db(transaction=True)`), and are synchronous: from asynchronous tests
call them, and the act, inside one function given to `sync_to_async`.
"""

import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import jsonpatch
from django.db import connection

from executions.document import JsonObject, execution_document
from executions.event_log import Head, find_event_id, read_events, read_heads
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Activity, Execution
from executions.signals import events_committed
from executions.snapshots import Snapshot, read_snapshot
from executions.statuses import ExecutionStatus

_EVERYTHING: Final = 2**31
_BEFORE_THE_FIRST: Final = EventId(0, -1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ENVELOPE: Final = {"type", "execution_id", "event_id", "timestamp"}
_CONTENT: Final = {
    "initial_snapshot": "execution",
    "activity_patch": "ops",
    "final_snapshot": "execution",
}


@dataclass
class Told:
    """What was told during a block of `assert_patches_tell_the_truth`; filled at its end."""

    events: list[CommittedEvent] = field(default_factory=list)

    @property
    def messages(self) -> list[JsonObject]:
        """The events' messages, decoded."""
        return [json.loads(event.message) for event in self.events]

    @property
    def operations(self) -> list[JsonObject]:
        """The operations of all patches, in order."""
        return [op for message in self.messages for op in message.get("ops", ())]


@contextmanager
def assert_patches_tell_the_truth(
    execution_id: str, *, nothing_expected: bool = False
) -> Iterator[Told]:
    """Snapshot, act, fold what was emitted over the snapshot, demand the state there is now.

    Fails unless all of this holds of the events logged during the block:

    - applying their operations, strictly, to the document before gives the document now;
      every operation changes something, and activities are only added at the end;
    - sequences go on from the head without a gap, milliseconds never go back, the head and
      the snapshot are at the last of them;
    - each message names its own event_id, its execution and its time;
    - the final snapshot, if there is one, is the last and equals the fold, and is there
      exactly if the execution is final;
    - `signals.events_committed` carried exactly these events, in order (in order within
      each thread, if several threads wrote);
    - there is at least one, or none with `nothing_expected=True`.

    An execution may be created within the block. For a refused change put `pytest.raises`
    inside the block, and `nothing_expected=True`. Other processes must not write this
    execution meanwhile: their signals are not heard here.
    """
    assert not connection.in_atomic_block, (
        "signals are sent after the commit: use django_db(transaction=True), and put the "
        "whole transaction inside the block"
    )
    before = read_snapshot(execution_id)
    told = Told()
    with _listening(execution_id) as heard:
        yield told
    assert not connection.in_atomic_block, "a transaction is still open at the block's end"
    head = _BEFORE_THE_FIRST if before is None else before.event_id
    told.events = read_events(execution_id, head.sequence, _EVERYTHING)
    if nothing_expected:
        assert not told.events, f"nothing was to be told, but these were logged: {told.events}"
    else:
        assert told.events, "nothing was told: no event was logged during the block"
    assert_events_follow(execution_id, head, told.events)
    _assert_heard(heard, told.events)
    if before is not None and before.is_final:
        assert not told.events, f"a closed log grew: {told.events}"
    folded = _fold_onto(None if before is None else before.document, told.messages)
    if before is None and folded is None:
        assert read_snapshot(execution_id) is None, "an execution came to be without an event"
        return
    assert folded is not None
    after = _assert_is_now(execution_id, folded)
    last = told.events[-1].event_id if told.events else head
    assert after.event_id == last, f"the head is {after.event_id}, the last event {last}"
    if after.is_final and told.events:
        assert told.messages[-1]["type"] == "final_snapshot", "the log is not closed"


def assert_log_is_whole(execution_id: str) -> list[CommittedEvent]:
    """The execution's log proves its present state from its beginning; returns the log.

    Event 0 is the initial snapshot; sequences are dense, milliseconds never go back; a
    final snapshot is there exactly if the execution is final: once, last, and equal to the
    fold; the fold of the log, `read_snapshot` and the models' rows are the same document,
    at the same head.
    """
    log = read_events(execution_id, -1, _EVERYTHING)
    assert log, f"execution {execution_id} has no event"
    assert_events_follow(execution_id, _BEFORE_THE_FIRST, log)
    messages = [json.loads(event.message) for event in log]
    after = _assert_is_now(execution_id, fold(messages))
    last = log[-1].event_id
    assert after.event_id == last, f"the head is {after.event_id}, the last event {last}"
    closed = messages[-1]["type"] == "final_snapshot"
    assert closed == after.is_final, f"final: {after.is_final}, but log closed: {closed}"
    for event in (log[0], log[-1]):
        found = find_event_id(execution_id, event.event_id.sequence)
        assert found == event.event_id, f"{event.event_id} is found as {found}"
    return log


def logged_ids(execution_id: str) -> list[str]:
    """The event_ids that the event log holds of the execution, in order."""
    return [str(event.event_id) for event in read_events(execution_id, -1, _EVERYTHING)]


@contextmanager
def nobody_listening() -> Iterator[None]:
    """Events are committed and announced, but nobody publishes them: the door alone."""
    receivers = events_committed.receivers
    events_committed.receivers = []
    try:
        yield
    finally:
        events_committed.receivers = receivers


def fold(messages: Iterable[str | JsonObject]) -> JsonObject:
    """The document that a viewer has after these messages, texts or decoded.

    They begin with an initial snapshot. AssertionError where a patch does not apply
    strictly, a final snapshot differs from the fold before it, or anything follows it.
    """
    decoded = [json.loads(item) if isinstance(item, str) else item for item in messages]
    folded = _fold_onto(None, decoded)
    assert folded is not None, "there is nothing to fold"
    return folded


def document_of_rows(execution_id: str) -> JsonObject:
    """The document as the REST detail makes it: from the models' rows."""
    execution = Execution.objects.get(pk=execution_id)
    rows = list(Activity.objects.filter(execution_id=execution_id).order_by("position"))
    assert [row.position for row in rows] == list(range(len(rows))), "positions are not dense"
    return execution_document(execution, rows)


def assert_same_document(told: JsonObject, held: JsonObject) -> None:
    """Equal as JSON texts: `1`, `1.0` and `true` differ; names every difference."""
    if _canonical(told) != _canonical(held):
        differences = list(jsonpatch.make_patch(told, held)) or "only in the kind of a number"
        raise AssertionError(f"what was told is not what is held; it would need: {differences}")


def assert_events_follow(
    execution_id: str, head: EventId, events: Sequence[CommittedEvent]
) -> None:
    """Dense sequences after `head`, milliseconds that never go back, honest envelopes."""
    for previous, event_id in pairwise((head, *(event.event_id for event in events))):
        assert event_id.sequence == previous.sequence + 1, f"{event_id} comes after {previous}"
        assert event_id.milliseconds >= previous.milliseconds, f"{event_id} is before {previous}"
    for event_id, text in events:
        message = json.loads(text)
        assert set(message) == _ENVELOPE | {_CONTENT[message["type"]]}, f"fields: {set(message)}"
        named = (message["execution_id"], message["event_id"])
        assert named == (execution_id, str(event_id)), f"{event_id} says that it is {named}"
        moment = _EPOCH + timedelta(milliseconds=event_id.milliseconds)
        told = message["timestamp"]
        assert told.endswith("Z"), f"the timestamp {told} does not say that it is UTC"
        assert datetime.fromisoformat(told) == moment, f"the timestamp of {event_id} is {told}"


def _fold_onto(document: JsonObject | None, messages: Iterable[JsonObject]) -> JsonObject | None:
    closed = False
    for message in messages:
        name = message["event_id"]
        assert not closed, f"{name} comes after the final snapshot"
        if message["type"] == "initial_snapshot":
            assert document is None, f"{name} is an initial snapshot, but not the first event"
            document = message["execution"]
            continue
        assert document is not None, f"{name} is not an initial snapshot, but the first event"
        if message["type"] == "activity_patch":
            document = _apply_strictly(document, message)
        else:
            assert message["type"] == "final_snapshot", f"{name} is {message['type']}"
            assert_same_document(document, message["execution"])
            assert ExecutionStatus(document["status"]).is_final, f"{name} closes an open execution"
            closed = True
    return document


def _apply_strictly(document: JsonObject, patch: JsonObject) -> JsonObject:
    name = patch["event_id"]
    assert patch["ops"], f"{name} has no operation"
    paths = [operation["path"] for operation in patch["ops"]]
    assert len(set(paths)) == len(paths), f"{name} writes a path twice: {paths}"
    for operation in patch["ops"]:
        assert set(operation) == {"op", "path", "value"}, f"{name}: {operation}"
        if operation["op"] == "add":
            end = f"/activities/{len(document['activities'])}"
            assert operation["path"] == end, f"{name} adds at {operation['path']}, not at {end}"
        else:
            assert operation["op"] == "replace", f"{name}: {operation}"
        try:
            changed = jsonpatch.apply_patch(document, [operation])
        except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
            raise AssertionError(f"{name} does not apply: {operation}") from error
        assert _canonical(changed) != _canonical(document), f"{name} changes nothing: {operation}"
        document = changed
    return document


def _assert_is_now(execution_id: str, folded: JsonObject) -> Snapshot:
    snapshot = read_snapshot(execution_id)
    assert snapshot is not None, f"there is no execution {execution_id}"
    assert_same_document(folded, snapshot.document)
    assert_same_document(folded, document_of_rows(execution_id))
    status = ExecutionStatus(folded["status"])
    assert snapshot.is_final == status.is_final, f"{status}, but final: {snapshot.is_final}"
    heads = read_heads([execution_id])
    head = Head(snapshot.event_id, snapshot.is_final)
    assert heads == {execution_id: head}, f"the heads are {heads}"
    return snapshot


_Heard = list[tuple[int, CommittedEvent]]


@contextmanager
def _listening(execution_id: str) -> Iterator[_Heard]:
    heard: _Heard = []
    # A receiver's exception would only be logged (it never reaches a writer): kept for later.
    wrong: list[object] = []

    def receive(sender: object, events: Any, **named: Any) -> None:
        if named["execution_id"] != execution_id:
            return
        if not isinstance(events, tuple) or not events:
            wrong.append(events)
            return
        heard.extend((threading.get_ident(), event) for event in events)

    events_committed.connect(receive, weak=False)
    try:
        yield heard
    finally:
        events_committed.disconnect(receive)
    assert not wrong, f"the signal carried {wrong}, not a tuple of events"


def _assert_heard(heard: _Heard, logged: list[CommittedEvent]) -> None:
    by_thread: dict[int, list[CommittedEvent]] = {}
    for thread, event in heard:
        by_thread.setdefault(thread, []).append(event)
    for events in by_thread.values():
        assert events == sorted(events), f"signals came out of order: {events}"
    everything = sorted(event for _, event in heard)
    assert everything == logged, f"the signal told {everything}, the log holds {logged}"


def _canonical(document: JsonObject) -> str:
    return json.dumps(document, sort_keys=True, allow_nan=False)
