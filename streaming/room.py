"""The viewers of one execution in one process, and how far its events have come to them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.snapshot import SnapshotMessage
from streaming.subscription import Interruption, Subscription
from streaming.tail import Tail, Verdict


class Room:
    """Delivers an execution's events to its subscriptions, each once and in order.

    It starts at the first event it is offered, or where the first viewer has caught up to.
    Belongs to one event loop.
    """

    def __init__(
        self,
        execution_id: str,
        read_snapshot: Callable[[str], Coroutine[None, None, SnapshotMessage | None]],
    ) -> None:
        self.execution_id = execution_id
        self.subscriptions: set[Subscription] = set()
        self.followed: asyncio.Task[None]
        self.repair: asyncio.Task[None] | None = None
        self._read_snapshot = read_snapshot
        self._snapshot: asyncio.Task[SnapshotMessage | None] | None = None
        self._tail: Tail | None = None
        self._known: EventId | None = None
        self._head_at_last_check: EventId | None = None

    @property
    def cursor(self) -> EventId | None:
        """The last event delivered."""
        return None if self._tail is None else self._tail.cursor

    @property
    def newest_known(self) -> EventId | None:
        """The newest event known of, delivered or not."""
        return self._known

    @property
    def lacks_known_events(self) -> bool:
        """Whether an event is known of that was not delivered."""
        return self._tail is not None and self._tail.lacks(self._known)

    def start_at(self, cursor: EventId) -> None:
        """Count events up to `cursor` as delivered, unless the room has started."""
        if self._tail is None:
            self._tail = Tail(cursor)
            self._know_of(cursor)

    def take(self, event: CommittedEvent) -> bool:
        """Deliver the event if it is the next; False where one before it is missing."""
        self._know_of(event.event_id)
        if self._tail is None:
            self._tail = Tail(event.event_id)
            verdict = Verdict.SEND
        else:
            verdict = self._tail.offer(event.event_id)
        if verdict is Verdict.SEND:
            for subscription in self.subscriptions:
                subscription.offer(event)
        return verdict is not Verdict.SOMETHING_IS_MISSING

    def skip_to_newest_known(self) -> None:
        """Give up on events that are not kept: each viewer looks for itself, or is resynced."""
        self._tail = Tail(self._known)
        for subscription in self.subscriptions:
            subscription.interrupt(Interruption.GAP)

    def is_behind(self, head: EventId, *, at_once: bool) -> bool:
        """Whether events up to the database's head are to be read.

        Not `at_once`, only what was missing at the last check already counts: an
        announcement may be under way.
        """
        overdue = head if at_once else self._head_at_last_check
        self._head_at_last_check = head
        if self._tail is None or not self._tail.lacks(overdue):
            return False
        self._know_of(head)
        return True

    async def shared_snapshot(self) -> SnapshotMessage | None:
        """The snapshot read now, or the one being read: a reader looks at `newest_known` after."""
        if self._snapshot is None:
            self._snapshot = asyncio.create_task(self._read_snapshot(self.execution_id))
            self._snapshot.add_done_callback(self._forget_snapshot)
        return await asyncio.shield(self._snapshot)

    def close(self) -> list[asyncio.Task[Any]]:
        """End what still runs for this room; the tasks that are about to end."""
        tasks = (self.followed, self.repair, self._snapshot)
        running: list[asyncio.Task[Any]] = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        return running

    def _know_of(self, event_id: EventId) -> None:
        if self._known is None or event_id.sequence > self._known.sequence:
            self._known = event_id

    def _forget_snapshot(self, task: "asyncio.Task[SnapshotMessage | None]") -> None:
        self._snapshot = None
