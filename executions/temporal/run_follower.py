"""Following one run: its history as it grows, and the hints about it, into the database."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, ParamSpec

import structlog
from django.db import Error as DatabaseError
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal import mirror
from executions.temporal.backoff import backoff_seconds
from executions.temporal.changes import Change, RunClosed
from executions.temporal.database import DatabaseThreads
from executions.temporal.hints import ActivityHint, ProgressMade
from executions.temporal.history import HistoryFold
from executions.temporal.history_reader import HistoryReader

P = ParamSpec("P")
log = structlog.get_logger(__name__)

PROGRESS_SECONDS: Final = 0.2
"""A run's progress is recorded this often at most; statuses are recorded as they come."""

QUIET_SECONDS: Final = 0.3
"""When finishing: as long without anything new, what is there has been recorded."""

HINTS_HELD: Final = 5_000
"""Hints of one run that may wait for their activity to appear in its history."""

RETRY_SECONDS: Final = (0.1, 10.0)


class RunFollower:
    """Mirrors one run until it closes. Only history creates: a hint waits for its activity.

    That costs no time (the server tells of an activity as soon as it gives it to a
    worker) and keeps activities in the order in which they were scheduled.
    """

    def __init__(
        self, workflow_id: str, run_id: str, history: HistoryReader, database: DatabaseThreads
    ) -> None:
        self._run_id = run_id
        self._history = history
        self._database = database
        self._fold = HistoryFold(workflow_id, run_id)
        self._hints: list[ActivityHint] = []
        self._progress: dict[str, ProgressMade] = {}
        self._progress_due = 0.0
        self._woken = asyncio.Event()
        self._finishing = False

    def tell(self, hint: ActivityHint) -> None:
        """Take note of a hint about this run; dropped where too many are waiting."""
        if isinstance(hint, ProgressMade):
            self._progress[hint.activity_id] = hint
        elif len(self._hints) < HINTS_HELD:
            self._hints.append(hint)
        self._woken.set()

    def finish(self) -> None:
        """Have `follow` return once what is there already has been recorded."""
        self._finishing = True
        self._woken.set()

    async def follow(self) -> RunClosed | None:
        """Mirror the run to its end, which is returned, or until told to finish.

        A database that is away is waited for. Raises RunGoneError, and RecordingError
        for what can never be recorded.
        """
        page = self._read_on()
        try:
            while await self._something_to_do():
                await self._record_hints()
                if page.done():
                    changes = self._fold.feed(page.result())
                    if not self._fold.is_closed:
                        page = self._read_on()
                    await self._record_history(changes)
                    if self._fold.is_closed:
                        return next((end for end in changes if isinstance(end, RunClosed)), None)
            return None
        finally:
            page.cancel()
            await asyncio.gather(page, return_exceptions=True)

    def _read_on(self) -> asyncio.Task[Sequence[HistoryEvent]]:
        page = asyncio.create_task(self._history.next_page())
        page.add_done_callback(lambda _: self._woken.set())
        return page

    async def _something_to_do(self) -> bool:
        """Wait for it; False if there is nothing and the follower is finishing."""
        wait = QUIET_SECONDS if self._finishing else None
        if self._progress:
            wait = max(0.0, self._progress_due - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(wait):
                await self._woken.wait()
        except TimeoutError:
            return bool(self._progress)
        self._woken.clear()
        return True

    async def _record_hints(self) -> None:
        known: list[ActivityHint] = []
        held: list[ActivityHint] = []
        for hint in self._hints:
            if (activity_id := self._fold.open_activity(hint.activity_id)) is not None:
                known.append(replace(hint, activity_id=activity_id))
            elif self._fold.may_yet_open(hint.activity_id, hint.scheduled_at):
                held.append(hint)
        self._hints = held
        known += self._progress_now_due()
        if known:
            await self._write(mirror.record_hints, self._run_id, known)

    def _progress_now_due(self) -> list[ActivityHint]:
        now = asyncio.get_running_loop().time()
        if not self._progress or now < self._progress_due:
            return []
        self._progress_due = now + PROGRESS_SECONDS
        progress, self._progress = self._progress, {}
        return [
            replace(hint, activity_id=activity_id)
            for hint in progress.values()
            if (activity_id := self._fold.open_activity(hint.activity_id)) is not None
        ]

    async def _record_history(self, changes: Sequence[Change]) -> None:
        if changes:
            await self._write(mirror.record_history, self._run_id, changes)
        if self._hints:
            self._woken.set()

    async def _write(self, job: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        waits = backoff_seconds(*RETRY_SECONDS)
        while True:
            try:
                return await self._database.run(job, *args, **kwargs)
            except DatabaseError as error:
                wait = next(waits)
                log.warning(
                    "run_not_recorded",
                    execution_id=self._run_id,
                    problem=str(error),
                    retry_seconds=round(wait, 3),
                )
                await asyncio.sleep(wait)
