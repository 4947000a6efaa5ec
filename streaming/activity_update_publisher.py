"""Publishing committed events on their execution's stream, from the process that wrote them.

Writers never fail and hardly wait because of Valkey: what cannot be appended is in the
event log, is remembered here as backlog, and is filled in from there by a thread of this
process as soon as Valkey answers. What a process leaves behind when it dies is found by
the next one that begins to write (`sweep`), and by any viewer's hub.
"""

import threading
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any, Final

import structlog
from django.db import Error as DatabaseError
from django.db import connection, transaction

from executions.event_log import heads_changed_since
from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import metrics
from streaming.stream import EVENTS_PER_FILL, StreamWriter
from streaming.valkey.clients import UNREACHABLE, is_refusal, writing_client

SWEEP_HOURS: Final = 24
"""How far back a beginning writer looks for streams that lack events."""

STREAMS_PER_SWEEP_STEP: Final = 500

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class ActivityUpdatePublisher:
    """Appends events to streams; takes over what it could not append until it can.

    Thread-safe. `pause` waits between attempts of the backlog's thread, in seconds.
    """

    def __init__(self, writer: StreamWriter, pause: Callable[[float], None] = time.sleep) -> None:
        self._writer = writer
        self._pause = pause
        self._lock = threading.Lock()
        self._backlog: dict[str, None] = {}
        self._sweep_wanted = False
        self._valkey_is_away = False
        self._repair: threading.Thread | None = None

    def publish(
        self, execution_id: str, events: Sequence[CommittedEvent], previous: EventId | None
    ) -> None:
        """Append events that have been committed; never raises because of Valkey or the database.

        `previous` is the event before them, None before an execution's first.

        While Valkey is known to be away this returns at once. Otherwise it waits at most
        the writing client's time limits, and fills at most EVENTS_PER_FILL missing events.
        """
        if self._valkey_is_away:
            self._take_into_backlog(execution_id)
            return
        began = time.perf_counter()
        try:
            appended = self._writer.append(execution_id, events, previous)
            if appended.stopped_at_gap:
                if events[0].event_id.sequence - appended.last_sequence <= EVENTS_PER_FILL:
                    self._writer.fill(execution_id)
                else:
                    self._take_into_backlog(execution_id)
                    return
            metrics.published(len(events), time.perf_counter() - began)
        except UNREACHABLE as error:
            metrics.publish_failures.inc()
            # A refusal comes at once, and perhaps concerns this stream alone.
            self._valkey_is_away = not is_refusal(error)
            log.warning(
                "publish_failed",
                execution_id=execution_id,
                event_id=str(events[-1].event_id),
                error=str(error),
            )
            self._take_into_backlog(execution_id)
        except DatabaseError as error:
            metrics.publish_failures.inc()
            log.warning("fill_failed", execution_id=execution_id, error=str(error))
            self._take_into_backlog(execution_id)

    def fill(self, execution_id: str) -> None:
        """Have the stream filled up from the event log, by the backlog's thread."""
        self._take_into_backlog(execution_id)

    def sweep(self) -> None:
        """Have every stream of the last SWEEP_HOURS that does not end with the head filled up."""
        with self._lock:
            self._sweep_wanted = True
            self._start_repair()

    @property
    def backlog_size(self) -> int:
        """How many executions have events that wait to be appended by this process."""
        return len(self._backlog)

    def wait_until_filled(self, deadline_seconds: float) -> bool:
        """Wait for the backlog to be worked off; whether it was within the deadline."""
        repair = self._repair
        if repair is not None:
            repair.join(deadline_seconds)
        return repair is None or not repair.is_alive()

    def _take_into_backlog(self, execution_id: str) -> None:
        with self._lock:
            self._backlog[execution_id] = None
            self._start_repair()

    def _start_repair(self) -> None:
        if self._repair is None or not self._repair.is_alive():
            self._repair = threading.Thread(
                target=self._work_off, name="nexus-stream-repair", daemon=True
            )
            self._repair.start()

    def _work_off(self) -> None:
        pause_seconds = FIRST_PAUSE_SECONDS
        began = time.monotonic()
        log.info("backlog_began", backlog=self.backlog_size)
        while True:
            try:
                self._work_off_once()
            except (*UNREACHABLE, DatabaseError) as error:
                metrics.publish_failures.inc()
                log.warning("repair_waits", backlog=self.backlog_size, error=str(error))
                self._pause(pause_seconds)
                pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
                continue
            finally:
                connection.close()
            with self._lock:
                if not self._backlog and not self._sweep_wanted:
                    self._repair = None
                    log.info("backlog_ended", seconds=round(time.monotonic() - began, 3))
                    return

    def _work_off_once(self) -> None:
        if self._sweep_wanted:
            self._sweep()
        refusal: Exception | None = None
        with self._lock:
            waiting = list(self._backlog)
        for execution_id in waiting:
            try:
                self._fill_one(execution_id)
            except UNREACHABLE as error:
                if not is_refusal(error):
                    raise
                # Perhaps this stream's own fault: the others are not to wait for it.
                refusal = error
        if refusal is not None:
            raise refusal

    def _fill_one(self, execution_id: str) -> None:
        # Out of the backlog first: what is committed from here on is either seen by this
        # fill or put back by its own publish().
        with self._lock:
            self._backlog.pop(execution_id, None)
        try:
            self._writer.fill(execution_id)
        except BaseException:
            with self._lock:
                self._backlog[execution_id] = None
            raise
        if self._valkey_is_away:
            self._valkey_is_away = False
            log.warning("valkey_is_back", backlog=self.backlog_size)

    def _sweep(self) -> None:
        self._sweep_wanted = False
        try:
            since = time.time_ns() // 1_000_000 - SWEEP_HOURS * 3_600_000
            heads = heads_changed_since(since)
            while batch := list(islice(heads, STREAMS_PER_SWEEP_STEP)):
                tops = self._writer.tops([execution_id for execution_id, _ in batch])
                lacking = [
                    execution_id
                    for (execution_id, head), top in zip(batch, tops, strict=True)
                    if top != head
                ]
                with self._lock:
                    self._backlog.update(dict.fromkeys(lacking))
        except BaseException:
            self._sweep_wanted = True
            raise


@cache
def publisher() -> ActivityUpdatePublisher:
    """This process' publisher."""
    made = ActivityUpdatePublisher(StreamWriter(writing_client()))
    metrics.publish_backlog_executions.set_function(lambda: made.backlog_size)
    return made


def publish_committed(
    execution_id: str,
    events: tuple[CommittedEvent, ...],
    previous: EventId | None,
    **_: Any,
) -> None:
    """Receiver of `executions.signals.events_committed`."""
    metrics.events_committed.inc(len(events))
    publisher().publish(execution_id, events, previous)


def sweep_before_writing(**_: Any) -> None:
    """Receiver of `executions.signals.writing_begins`."""
    publisher().sweep()


def drop_removed(execution_id: str, **_: Any) -> None:
    """Receiver of `executions.signals.execution_removed`: a log of nothing makes no stream."""
    transaction.on_commit(partial(publisher().fill, execution_id), robust=True)
