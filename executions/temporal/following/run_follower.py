"""Following one run: its history as it grows, and what is pending, into the database."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, ParamSpec, Protocol, TypeVar

import structlog
from django.db import Error as DatabaseError
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal import metrics
from executions.temporal.following.backoff import backoff_seconds
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.following.history_reader import RunGoneError
from executions.temporal.history.changes import Change, RunClosed, RunStarted
from executions.temporal.history.fold import HistoryFold
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.mirroring import histories, live_states

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger(__name__)

QUIET_SECONDS: Final = 0.3
"""When finishing: as long without anything new, what is there has been recorded."""

DESCRIBE_SECONDS: Final = 0.8
"""How often a run is described while something of it is pending."""

DESCRIBED_PER_SECOND: Final = 400
"""Pending activities that one run's descriptions may tell of a second; more of them, less often."""

RETRY_SECONDS: Final = (0.1, 10.0)


class History(Protocol):
    """The pages of the run's history, see `history_reader.HistoryReader`."""

    async def next_page(self) -> Sequence[HistoryEvent]: ...


class Describer(Protocol):
    """What is pending of the run, see `run_describer.RunDescriber`."""

    async def pending(self) -> Sequence[DescribedActivity]: ...


class RunFollower:
    """Mirrors one run until it closes.

    Events of the history up to `position` have been recorded before, by whoever followed
    the run then; they are read again only to know what the later ones speak of.
    `recorded` is called when something of the history has been recorded.
    """

    def __init__(
        self,
        workflow_id: str,
        run_id: str,
        position: int,
        history: History,
        describer: Describer,
        database: DatabaseThreads,
        recorded: Callable[[], None],
    ) -> None:
        self._run_id = run_id
        self._position = position
        self._history = history
        self._describer = describer
        self._database = database
        self._recorded = recorded
        self._fold = HistoryFold(workflow_id, run_id)
        self._has_begun = False
        self._is_pending = asyncio.Event()
        self._described: dict[str, DescribedActivity] = {}
        self._finishing = asyncio.Event()

    def finish(self) -> None:
        """Have `follow` return once what is there already has been recorded."""
        self._finishing.set()

    async def follow(self) -> RunClosed | None:
        """Mirror the run to its end, which is returned, or until told to finish.

        A database that is away is waited for. Raises RunGoneError, and RecordingError
        for what can never be recorded.
        """
        describing = asyncio.create_task(self._describe())
        try:
            while (page := await self._next_page()) is not None:
                with metrics.recording():
                    end = await self._record(page)
                self._tell_whether_pending()
                if end is not None or self._fold.is_closed:
                    return end
            return None
        finally:
            describing.cancel()
            await asyncio.gather(describing, return_exceptions=True)

    async def _next_page(self) -> Sequence[HistoryEvent] | None:
        """The next page, waited for; None if there is none and the follower finishes."""
        page = asyncio.create_task(self._history.next_page())
        finishing = asyncio.create_task(self._finishing.wait())
        try:
            await asyncio.wait({page, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if not page.done():
                # What was not even begun is waited for, for as long as the service has.
                await asyncio.wait({page}, timeout=QUIET_SECONDS if self._has_begun else None)
            return page.result() if page.done() else None
        finally:
            for task in (page, finishing):
                task.cancel()
            await asyncio.gather(page, finishing, return_exceptions=True)

    async def _record(self, page: Sequence[HistoryEvent]) -> RunClosed | None:
        """Record what the page says; the run's end, if it is among it."""
        changes = await self._begin(page)
        self._fold.feed(event for event in page if event.event_id <= self._position)
        changes += self._fold.feed(page)
        if changes:
            position = page[-1].event_id
            await self._write(histories.record_history, self._run_id, changes, position)
            metrics.recorded(page[-1])
            self._recorded()
        return next((told for told in changes if isinstance(told, RunClosed)), None)

    async def _begin(self, page: Sequence[HistoryEvent]) -> list[Change]:
        """Have the execution created by the first event; what else that event says."""
        begins = self._fold.feed(page[:1]) if not self._has_begun else []
        for told in begins:
            if isinstance(told, RunStarted):
                self._has_begun = True
                self._fold.adopt(await self._write(histories.record_start, self._run_id, told))
        return [told for told in begins if not isinstance(told, RunStarted)]

    def _tell_whether_pending(self) -> None:
        if self._fold.open_activities:
            self._is_pending.set()
        else:
            self._is_pending.clear()

    async def _describe(self) -> None:
        while True:
            await self._is_pending.wait()
            known = len(self._fold.open_activities)
            await asyncio.sleep(max(DESCRIBE_SECONDS, known / DESCRIBED_PER_SECOND))
            # An id may be used again: what is described must have been open before it was.
            before = dict(self._fold.open_activities)
            try:
                if before:
                    await self._record_described(before, await self._describer.pending())
            except RunGoneError:
                return
            except Exception:
                log.exception("run_not_described", execution_id=self._run_id)

    async def _record_described(
        self, before: Mapping[str, str], described: Sequence[DescribedActivity]
    ) -> None:
        pending = {
            before[told.engine_activity_id]: told
            for told in described
            if told.engine_activity_id in before
        }
        news = {
            activity_id: told
            for activity_id, told in pending.items()
            if self._described.get(activity_id) != told
        }
        if news:
            await self._write(live_states.record_descriptions, self._run_id, news)
        self._described = pending

    async def _write(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        waits = backoff_seconds(*RETRY_SECONDS)
        while True:
            try:
                return await self._database.run(job, *args, **kwargs)
            except DatabaseError as error:
                metrics.record_failures.inc()
                wait = next(waits)
                log.warning(
                    "run_not_recorded",
                    execution_id=self._run_id,
                    problem=str(error),
                    retry_seconds=round(wait, 3),
                )
                await asyncio.sleep(wait)
