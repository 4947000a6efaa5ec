"""Recording a worker's hints as they come, of all runs that the worker has a part in.

Whichever process follows a run, hints are recorded by the one that has them. Only history
creates activities, so a hint may come before its activity is there: it is tried again
when the run's follower has recorded something, and now and then, for EARLY_SECONDS.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog
from django.db import Error as DatabaseError

from executions.temporal.following.backoff import backoff_seconds
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.live.hints import ActivityHint, HeartbeatSent, HintQueue, RunSeen
from executions.temporal.metrics import hints_dropped
from executions.temporal.mirroring.live_states import record_hints

log = structlog.get_logger(__name__)

HEARTBEAT_SECONDS: Final = 0.2
"""A run's heartbeats are recorded this often at most; statuses are recorded as they come."""

EARLY_SECONDS: Final = 30.0
"""How long a hint waits for its activity to be there."""

HINTS_HELD: Final = 20_000
"""Hints of all runs that may wait, as while the database is away; further ones are dropped."""

RETRY_SECONDS: Final = (0.02, 2.0)


@dataclass(slots=True)
class _Run:
    """The hints of one run that are to be recorded; `held` counts them all, on their way too."""

    held: int = 0
    statuses: list[ActivityHint] = field(default_factory=list)
    heartbeats: dict[str, HeartbeatSent] = field(default_factory=dict)
    heartbeats_due: float = 0.0
    early_since: float | None = None
    is_waiting: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class HintRecorder:
    """Takes the hints of a queue until it is told to finish. Belongs to one event loop.

    `run_seen` is called for every run that the worker has a task of.
    """

    def __init__(
        self,
        hints: HintQueue,
        database: DatabaseThreads,
        run_seen: Callable[[str, str], None],
    ) -> None:
        self._hints = hints
        self._database = database
        self._run_seen = run_seen
        self._runs: dict[str, _Run] = {}
        self._held = 0
        self._recording: set[asyncio.Task[None]] = set()
        self._finishing = False

    def begin(self) -> None:
        """Take hints from here on, whichever thread puts them."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # A thread of the worker may outlive the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self.take)

        self._hints.call_when_filled(wake)

    async def finish(self, seconds: float) -> None:
        """Record what there is, as far as it can be within that time, and end."""
        self._hints.call_when_filled(None)
        self.take()
        self._finishing = True
        for run in self._runs.values():
            run.changed.set()
        if self._recording:
            await asyncio.wait(self._recording, timeout=seconds)
        for task in self._recording:
            task.cancel()
        await asyncio.gather(*self._recording, return_exceptions=True)

    def history_was_recorded(self, run_id: str) -> None:
        """Try again, at once, the hints that came before their activity."""
        run = self._runs.get(run_id)
        if run is not None and run.early_since is not None:
            run.changed.set()

    def take(self) -> None:
        """Take what is waiting in the queue."""
        hints, dropped = self._hints.take()
        for hint in hints:
            if isinstance(hint, RunSeen):
                self._run_seen(hint.workflow_id, hint.run_id)
            else:
                dropped += not self._keep(hint)
        if dropped:
            log.warning("hints_dropped", count=dropped)
            hints_dropped.inc(dropped)

    def _keep(self, hint: ActivityHint) -> bool:
        """Whether there was room for it."""
        if self._held >= HINTS_HELD:
            return False
        run = self._runs.get(hint.run_id)
        if run is None:
            run = self._runs[hint.run_id] = _Run()
            task = asyncio.create_task(self._record_run(hint.run_id, run))
            self._recording.add(task)
            task.add_done_callback(self._recording.discard)
        if isinstance(hint, HeartbeatSent):
            self._count(run, hint.activity_id not in run.heartbeats)
            run.heartbeats[hint.activity_id] = hint
        else:
            self._count(run, 1)
            run.statuses.append(hint)
        run.changed.set()
        return True

    def _count(self, run: _Run, more: int) -> None:
        run.held += more
        self._held += more

    async def _record_run(self, run_id: str, run: _Run) -> None:
        """Record one run's hints until there are none, and none would be too soon."""
        waits = backoff_seconds(*RETRY_SECONDS)
        try:
            while not self._is_done(run):
                run.changed.clear()
                wait = max(0.0, run.heartbeats_due - _time())
                if batch := self._taken_from(run):
                    run.statuses = [*await self._left_of(run_id, run, batch), *run.statuses]
                    if not run.is_waiting:
                        waits = backoff_seconds(*RETRY_SECONDS)
                        continue
                    if self._finishing:
                        return
                    wait = next(waits)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await run.changed.wait()
        except Exception:
            log.exception("hints_not_recorded", execution_id=run_id)
        finally:
            self._count(run, -run.held)
            del self._runs[run_id]

    def _is_done(self, run: _Run) -> bool:
        if run.statuses or run.heartbeats:
            return False
        return self._finishing or run.heartbeats_due <= _time()

    def _taken_from(self, run: _Run) -> list[ActivityHint]:
        batch, run.statuses = run.statuses, []
        if run.heartbeats and (self._finishing or run.heartbeats_due <= _time()):
            batch += run.heartbeats.values()
            run.heartbeats.clear()
            run.heartbeats_due = _time() + HEARTBEAT_SECONDS
        return batch

    async def _left_of(
        self, run_id: str, run: _Run, batch: Sequence[ActivityHint]
    ) -> list[ActivityHint]:
        """Record the batch; what of it must be tried again, after a wait."""
        left = list(batch)
        try:
            early = await self._database.run(record_hints, run_id, batch)
        except DatabaseError as error:
            log.warning("hints_wait", execution_id=run_id, problem=str(error))
            run.early_since = None
        else:
            # A later heartbeat says it all.
            left = [hint for hint in early if not isinstance(hint, HeartbeatSent)]
            run.early_since = (run.early_since or _time()) if left else None
        if run.early_since is not None and _time() > run.early_since + EARLY_SECONDS:
            log.warning("hints_without_activity", execution_id=run_id, count=len(left))
            left, run.early_since = [], None
        run.is_waiting = bool(left)
        self._count(run, len(left) - len(batch))
        return left


def _time() -> float:
    return asyncio.get_running_loop().time()
