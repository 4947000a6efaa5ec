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
        self.is_doubted = False
        """Whether the log perhaps does not have what was delivered last."""
        self.beginnings = 0
        """How often the room has begun anew."""

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

    @property
    def must_read(self) -> bool:
        """Whether what follows the cursor is to be read, if only to see that it is in the log."""
        return self._tail is not None and (self.is_doubted or self.lacks_known_events)

    def doubt(self) -> None:
        """Take the last event delivered for one that the log perhaps does not have."""
        self.is_doubted = True

    def trust(self) -> None:
        """Take it for one that the log has, as a reading that begins now will tell."""
        self.is_doubted = False

    def begin_anew(self) -> None:
        """Forget what was delivered, of which the log knows nothing: viewers look for themselves.

        So it is when the database was restored to an older state, or the execution removed.
        """
        self._tail = self._known = self._head_at_last_check = None
        self.is_doubted = False
        self.beginnings += 1
        for subscription in self.subscriptions:
            subscription.interrupt(Interruption.GAP)

    def start_at(self, cursor: EventId) -> None:
        """Count events up to `cursor` as delivered, unless the room has started.

        A viewer has them: a room that has started and has not is behind.
        """
        if self._tail is None:
            self._tail = Tail(cursor)
        self._know_of(cursor)

    def take(self, event: CommittedEvent) -> bool:
        """Deliver the event if it is the next; False where `must_read` holds afterwards.

        While the last event delivered is doubted nothing is: what has the next sequence
        would perhaps follow another event than that.
        """
        if self._tail is None:
            self._tail = Tail(event.event_id)
            verdict = Verdict.SEND
        elif self.is_doubted:
            verdict = Verdict.SOMETHING_IS_MISSING
        else:
            verdict = self._tail.offer(event.event_id)
        if verdict is Verdict.CONTRADICTION:
            self.doubt()
            return False
        self._know_of(event.event_id)
        if verdict is Verdict.SEND:
            for subscription in self.subscriptions:
                subscription.offer(event)
        return verdict is not Verdict.SOMETHING_IS_MISSING

    def skip_to_newest_known(self) -> None:
        """Give up on events that are not kept: each viewer looks for itself, or is resynced."""
        self._tail = Tail(self._known)
        for subscription in self.subscriptions:
            subscription.interrupt(Interruption.GAP)

    def differs(self, head: EventId | None, delivered: EventId | None, *, at_once: bool) -> bool:
        """Compare with the head in the database (None: there is none); whether `must_read` holds.

        `delivered` is the cursor as it was before the head was read, which must be in the
        log up to this head. Not `at_once`, only what was missing at the last check already
        counts as missing: an announcement may be under way.
        """
        if delivered is not None and (
            head is None or head.sequence < delivered.sequence or head.contradicts(delivered)
        ):
            self.doubt()
        elif head is not None and head == delivered == self.cursor:
            self.trust()
        overdue = head if at_once else self._head_at_last_check
        self._head_at_last_check = head
        if head is not None and self._tail is not None and self._tail.lacks(overdue):
            self._know_of(head)
        return self.must_read

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
