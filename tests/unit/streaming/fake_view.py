"""A View that plays a script: what a connection's stream reads, hears and when."""

import asyncio
from collections.abc import Callable, Sequence
from typing import cast

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.close_codes import CloseCode
from streaming.execution_stream import ExecutionStream
from streaming.heartbeats import Heartbeats
from streaming.hub import View
from streaming.snapshot import SnapshotMessage, snapshot_text
from streaming.start import Start
from streaming.subscription import Interruption
from tests.unit.streaming.world import EXECUTION_ID, HEARTBEAT_SECONDS, Client, document, event_id

Heard = Sequence[CommittedEvent] | Interruption


class ScriptEndedError(Exception):
    """The connection waits for more than the script has."""


def snapshot_at(sequence: int, *, final: bool = False) -> SnapshotMessage:
    """The snapshot true at `sequence`; of a finished execution the head is one further."""
    at = event_id(sequence)
    whole = document(sequence, "completed" if final else "running")
    head = event_id(sequence + final)
    return SnapshotMessage(at, head, whole, snapshot_text(EXECUTION_ID, at, whole, None))


class FakeView:
    """What `log` holds can be read; `heard` is what next_events returns, call by call."""

    execution_id = EXECUTION_ID

    def __init__(
        self,
        log: Sequence[CommittedEvent] = (),
        heard: Sequence[Heard] = (),
        snapshots: Sequence[SnapshotMessage | None] = (),
        newest: EventId | None = None,
    ) -> None:
        self.log = list(log)
        self.heard = list(heard)
        self.snapshots = list(snapshots)
        self.newest = newest
        self.hears = True
        self.live_from: list[EventId] = []
        self.read_cursors: list[EventId | None] = []
        self.events_per_read = 3

    async def snapshot(self) -> SnapshotMessage | None:
        return self.snapshots.pop(0)

    async def read_after(self, cursor: EventId | None) -> list[CommittedEvent]:
        self.read_cursors.append(cursor)
        after = -1 if cursor is None else cursor.sequence
        found: list[CommittedEvent] = []
        for event in self.log:
            if event.event_id.sequence == after + 1 + len(found):
                found.append(event)
        return found[: self.events_per_read]

    def go_live(self, cursor: EventId, send_now: Callable[[CommittedEvent], bool]) -> None:
        self.live_from.append(cursor)
        self.send_now = send_now

    async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
        if not self.heard:
            raise ScriptEndedError
        heard = self.heard.pop(0)
        if isinstance(heard, Interruption):
            await asyncio.sleep(silence_seconds if heard is Interruption.SILENCE else 0)
            return heard
        return list(heard)


async def streamed(
    view: FakeView, start: Start, head: EventId, client: Client | None = None
) -> tuple[Client, CloseCode | None]:
    """The client after the stream's end; no code where only the script ended."""
    client = client or Client()
    stream = ExecutionStream(
        cast(View, view), Heartbeats(client.take, HEARTBEAT_SECONDS, client.take_now)
    )
    try:
        return client, await stream.run(start, head)
    except ScriptEndedError:
        return client, None
