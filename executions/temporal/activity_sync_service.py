"""The ActivitySyncService: mirrors the runs of a Temporal worker into executions."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Final, Self

import structlog
from django.db import Error as DatabaseError
from temporalio.client import Client
from temporalio.service import RPCError

from executions.recording import RecordingError
from executions.signals import writing_begins
from executions.temporal import mirror
from executions.temporal.database import DatabaseThreads
from executions.temporal.hints import HintQueue, RunSeen
from executions.temporal.history_reader import HistoryReader, RunGoneError
from executions.temporal.run_follower import RunFollower

log = structlog.get_logger(__name__)

DISCOVERY_SECONDS: Final = 10.0
"""How often Temporal is asked for runs that no worker announced."""

LOOK_BACK: Final = timedelta(hours=1)
"""Runs that closed within this time before the start are mirrored, where they are not yet."""

VISIBILITY_LAG: Final = timedelta(minutes=1)
"""A run may be listed this much later than it closed."""

LONG_POLLS: Final = 1_000
"""Histories read at once. Temporal's default limit is 1,200 long polls in a namespace."""

FINISH_SECONDS: Final = 3.0
"""How long the end of the service may take to record what is there already."""

ENDED_REMEMBERED: Final = 10_000


class ActivitySyncService:
    """Mirrors runs of the client's namespace for as long as its `async with` lasts.

    It follows the runs that `hints` tell of and those it finds: open ones, and ones that
    closed while nobody looked. With `task_queue`, only runs of that queue are looked for.

    Any number of services may mirror the same runs. Nothing that happens here reaches the
    worker: what cannot be read or written is tried again, and logged.
    """

    def __init__(self, client: Client, hints: HintQueue, *, task_queue: str | None = None) -> None:
        self._client = client
        self._hints = hints
        self._task_queue = task_queue
        self._database = DatabaseThreads()
        self._polls = asyncio.Semaphore(LONG_POLLS)
        self._followers: dict[str, RunFollower] = {}
        self._following: set[asyncio.Task[None]] = set()
        self._background: list[asyncio.Task[None]] = []
        self._ended: dict[str, None] = {}
        self._hints_waiting = asyncio.Event()
        self._finishing = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # A thread of the worker may outlive the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(self._hints_waiting.set)

        self._hints.call_when_filled(wake)
        writing_begins.send_robust(sender=type(self))
        self._background = [
            asyncio.create_task(self._pass_on_hints()),
            asyncio.create_task(self._discover()),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._hints.call_when_filled(None)
        await _cancelled(self._background)
        self._pass_on_waiting_hints()
        self._finishing = True
        for follower in self._followers.values():
            follower.finish()
        if self._following:
            await asyncio.wait(self._following, timeout=FINISH_SECONDS)
        await _cancelled(self._following)
        self._database.close()

    @property
    def followed(self) -> frozenset[str]:
        """The run ids that are being followed."""
        return frozenset(self._followers)

    def follow(self, workflow_id: str, run_id: str) -> RunFollower | None:
        """The run's follower, a new one if need be; None if the run is done with."""
        if run_id in self._followers:
            return self._followers[run_id]
        if self._finishing or run_id in self._ended:
            return None
        history = HistoryReader(self._client, workflow_id, run_id, self._polls)
        follower = RunFollower(workflow_id, run_id, history, self._database)
        self._followers[run_id] = follower
        task = asyncio.create_task(self._mirror(workflow_id, run_id, follower))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return follower

    async def _pass_on_hints(self) -> None:
        while True:
            await self._hints_waiting.wait()
            self._hints_waiting.clear()
            self._pass_on_waiting_hints()

    def _pass_on_waiting_hints(self) -> None:
        hints, dropped = self._hints.take()
        if dropped:
            log.warning("hints_dropped", count=dropped)
        for hint in hints:
            follower = self.follow(hint.workflow_id, hint.run_id)
            if follower is not None and not isinstance(hint, RunSeen):
                follower.tell(hint)

    async def _discover(self) -> None:
        since = datetime.now(UTC) - LOOK_BACK
        while True:
            began = datetime.now(UTC)
            try:
                await self._follow_open_runs()
                await self._follow_runs_closed_since(since)
            except (RPCError, DatabaseError) as error:
                log.warning("discovery_failed", problem=str(error))
            except Exception:
                log.exception("discovery_failed")
            else:
                since = began - VISIBILITY_LAG
            await asyncio.sleep(DISCOVERY_SECONDS)

    async def _follow_open_runs(self) -> None:
        async for workflow_id, run_id in self._listed("ExecutionStatus = 'Running'"):
            self.follow(workflow_id, run_id)

    async def _follow_runs_closed_since(self, since: datetime) -> None:
        closed = {
            run_id: workflow_id
            async for workflow_id, run_id in self._listed(
                f"ExecutionStatus != 'Running' AND CloseTime >= '{since.isoformat()}'"
            )
            if run_id not in self._followers and run_id not in self._ended
        }
        for run_id in await self._database.run(mirror.not_mirrored_to_the_end, closed.keys()):
            self.follow(closed[run_id], run_id)

    async def _listed(self, query: str) -> AsyncIterator[tuple[str, str]]:
        if self._task_queue is not None:
            query += f" AND TaskQueue = {_quoted(self._task_queue)}"
        async for run in self._client.list_workflows(query):
            yield run.id, run.run_id

    async def _mirror(self, workflow_id: str, run_id: str, follower: RunFollower) -> None:
        try:
            end = await follower.follow()
        except RunGoneError as error:
            log.warning("run_gone", execution_id=run_id, problem=str(error))
            self._remember_ended(run_id)
        except RecordingError:
            log.exception("run_not_mirrored", execution_id=run_id)
            self._remember_ended(run_id)
        except Exception:
            # Not remembered: discovery takes an open run up again.
            log.exception("following_failed", execution_id=run_id)
        else:
            if end is not None:
                log.info("run_mirrored", execution_id=run_id, status=end.status.value)
                self._remember_ended(run_id)
                if end.next_run_id is not None:
                    self.follow(workflow_id, end.next_run_id)
        finally:
            del self._followers[run_id]

    def _remember_ended(self, run_id: str) -> None:
        """So that late hints and lagging lists do not begin it again."""
        self._ended[run_id] = None
        if len(self._ended) > ENDED_REMEMBERED:
            del self._ended[next(iter(self._ended))]


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _quoted(text: str) -> str:
    """The text as a literal of Temporal's list filters."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
