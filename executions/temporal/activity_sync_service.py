"""The ActivitySyncService: mirrors the runs of a Temporal worker into executions."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Set
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import structlog
from django.db import Error as DatabaseError
from temporalio.client import Client

from executions.recording import RecordingError
from executions.signals import writing_begins
from executions.temporal import metrics
from executions.temporal.following import leases
from executions.temporal.following.call_pace import CallPace
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.following.discovery import Discovery
from executions.temporal.following.hint_recorder import HintRecorder
from executions.temporal.following.history_reader import HistoryReader, RunGoneError
from executions.temporal.following.run_describer import RunDescriber
from executions.temporal.following.run_follower import RunFollower
from executions.temporal.live.hints import HintQueue
from executions.temporal.mirroring import definitions

log = structlog.get_logger(__name__)

DISCOVERY_SECONDS: Final = 10.0
"""How often Temporal is asked for runs that no worker announced."""

FOREIGN_DISCOVERY_SECONDS: Final = 1.0
"""The same, where the runs of other workers are mirrored too, which announce none."""

LONG_POLLS: Final = 1_000
"""Histories read at once. Temporal's default limit is 1,200 long polls in a namespace."""

RUNS_FOLLOWED: Final = 5_000
"""Runs that one process follows; further ones are left to others, or wait."""

ROOM_AGAIN_SECONDS: Final = 0.5

CALLS_PER_SECOND: Final = 100.0
"""Of one process to Temporal's frontend, long polls aside: a few per cent of what it allows."""

FINISH_SECONDS: Final = 3.0
"""How long the end of the service may take to record what is there already."""

ENDED_REMEMBERED: Final = 10_000


class ActivitySyncService:
    """Mirrors runs of the client's namespace for as long as its `async with` lasts.

    It follows the runs that `hints` tell of and those it finds: open ones, ones that
    closed while nobody looked, and ones whose follower has died. With `task_queue`, only
    runs of that queue are looked for. `workflow_definitions` plan the runs of these
    workflow types; without `keep_payloads`, inputs, outputs and the like are not kept.

    Of any number of services, one follows a run at a time (see `leases`). Nothing that
    happens here reaches the worker: what cannot be read or written is tried again, and logged.
    """

    def __init__(
        self,
        client: Client,
        hints: HintQueue,
        *,
        task_queue: str | None = None,
        workflow_definitions: Mapping[str, Any] | None = None,
        keep_payloads: bool = True,
    ) -> None:
        self._client = client
        self._task_queue = task_queue
        self._definitions = workflow_definitions or {}
        self._keep_payloads = keep_payloads
        self._process_id = uuid4()
        self._database = DatabaseThreads()
        self._hints = HintRecorder(hints, self._database, self.follow)
        self._pace = CallPace(CALLS_PER_SECOND)
        self._polls = asyncio.Semaphore(LONG_POLLS)
        self._followers: dict[str, RunFollower] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._ended: dict[str, None] = {}
        self._wanted: dict[str, str] = {}
        self._is_wanted = asyncio.Event()
        self._missing: Set[str] = frozenset()
        self._discovery = Discovery(
            client, self._database, self._pace, self._claim_found, task_queue
        )

    async def __aenter__(self) -> Self:
        writing_begins.send_robust(sender=type(self))
        self._hints.begin()
        is_foreign = self._task_queue is None
        discovery_seconds = FOREIGN_DISCOVERY_SECONDS if is_foreign else DISCOVERY_SECONDS
        self._background = [
            asyncio.create_task(self._repeat("claiming", 0, self._claim_wanted)),
            asyncio.create_task(self._repeat("holding", leases.HOLD_SECONDS, self._hold)),
            asyncio.create_task(self._repeat("discovery", discovery_seconds, self._discovery.look)),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _cancelled(self._background)
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._finish()
        except (DatabaseError, TimeoutError) as problem:
            # Whoever follows these runs next makes up for it.
            log.warning("ended_early", count=len(self._following), problem=str(problem))
        await _cancelled(list(self._following.values()))
        await self._hints.finish(0.0)
        self._database.close()

    async def _finish(self) -> None:
        """Record what has happened, however short the worker lived, and let go of its runs."""
        self._hints.take()
        await self._claim(dict(self._wanted))
        for follower in self._followers.values():
            follower.finish()
        if self._following:
            await asyncio.wait(self._following.values())
        # After the histories, so that no hint is too early any more.
        await self._hints.finish(FINISH_SECONDS)
        await self._database.run(leases.release, self._process_id)

    @property
    def followed(self) -> frozenset[str]:
        """The run ids that are being followed."""
        return frozenset(self._followers)

    def follow(self, workflow_id: str, run_id: str) -> None:
        """Follow the run from here on, unless another process does or it is done with."""
        if self._is_new(run_id):
            self._wanted[run_id] = workflow_id
            self._is_wanted.set()

    async def _repeat(
        self, name: str, seconds: float, action: Callable[[], Awaitable[None]]
    ) -> None:
        """Do it for ever; what fails is logged and done again after a while."""
        while True:
            try:
                await action()
            except DatabaseError as error:
                log.warning(f"{name}_failed", problem=str(error))
                await asyncio.sleep(leases.HOLD_SECONDS)
            except Exception:
                log.exception(f"{name}_failed")
                await asyncio.sleep(leases.HOLD_SECONDS)
            await asyncio.sleep(seconds)

    async def _claim_wanted(self) -> None:
        await self._is_wanted.wait()
        self._is_wanted.clear()
        runs = dict(islice(self._wanted.items(), self._room))
        try:
            await self._claim(runs)
        except DatabaseError:
            self._is_wanted.set()
            raise
        for run_id in runs:
            del self._wanted[run_id]

    async def _claim_found(self, runs: Mapping[str, str]) -> None:
        """Follow runs that were found, as soon as there is room for them."""
        waiting = [run_id for run_id in runs if self._is_new(run_id)]
        while waiting:
            if self._room:
                part, waiting = waiting[: self._room], waiting[self._room :]
                await self._claim({run_id: runs[run_id] for run_id in part})
            else:
                await asyncio.sleep(ROOM_AGAIN_SECONDS)

    async def _claim(self, runs: Mapping[str, str]) -> None:
        if not runs:
            return
        await self._register_definitions()
        claimed = await self._database.run(
            leases.claim, self._process_id, self._client.namespace, runs
        )
        for run_id, position in claimed.items():
            self._begin(runs[run_id], run_id, position)

    @property
    def _room(self) -> int:
        return max(0, RUNS_FOLLOWED - len(self._following))

    def _is_new(self, run_id: str) -> bool:
        return run_id not in self._following and run_id not in self._ended

    async def _register_definitions(self) -> None:
        """Before any run begins, once."""
        if self._definitions:
            await self._database.run(definitions.register, self._definitions)
            self._definitions = {}

    async def _hold(self) -> None:
        """Keep the lease, let go of what was lost, take what others have left."""
        if self._following:
            kept = await self._database.run(leases.hold, self._process_id)
            missing = self._following.keys() - kept
            # Once may be a run that is just ending.
            lost = [self._following[run_id] for run_id in missing & self._missing]
            self._missing = missing
            if lost:
                log.warning("runs_lost", count=len(lost))
                await _cancelled(lost)
        taken = await self._database.run(
            leases.take_over, self._process_id, self._client.namespace, self._room
        )
        if taken:
            log.info("runs_taken_over", count=len(taken))
            metrics.runs_taken_over.inc(len(taken))
        for run in taken:
            self._begin(run.workflow_id, run.run_id, run.position)
        metrics.lease_held()

    def _begin(self, workflow_id: str, run_id: str, position: int) -> None:
        if run_id in self._following:
            return
        history = HistoryReader(
            self._client, workflow_id, run_id, self._polls, self._pace, self._keep_payloads
        )
        describer = RunDescriber(
            self._client, workflow_id, run_id, self._pace, keep_payloads=self._keep_payloads
        )

        def recorded() -> None:
            self._hints.history_was_recorded(run_id)

        follower = RunFollower(
            workflow_id, run_id, position, history, describer, self._database, recorded
        )
        self._followers[run_id] = follower
        self._following[run_id] = asyncio.create_task(self._mirror(workflow_id, run_id, follower))

    async def _mirror(self, workflow_id: str, run_id: str, follower: RunFollower) -> None:
        metrics.runs_followed.inc()
        try:
            end = await follower.follow()
        except RunGoneError as error:
            log.warning("run_gone", execution_id=run_id, problem=str(error))
            await self._give_up(run_id)
        except RecordingError:
            log.exception("run_not_mirrored", execution_id=run_id)
            await self._give_up(run_id)
        except Exception:
            # Not given up: discovery takes an open run up again.
            log.exception("following_failed", execution_id=run_id)
        else:
            if end is not None:
                log.info("run_mirrored", execution_id=run_id, status=end.status.value)
                self._remember_ended(run_id)
                if end.next_run_id is not None:
                    self.follow(workflow_id, end.next_run_id)
        finally:
            metrics.runs_followed.dec()
            del self._followers[run_id]
            del self._following[run_id]
            if self._wanted:
                self._is_wanted.set()

    async def _give_up(self, run_id: str) -> None:
        self._remember_ended(run_id)
        try:
            await self._database.run(leases.let_go, run_id)
        except DatabaseError as error:
            log.warning("run_not_let_go", execution_id=run_id, problem=str(error))

    def _remember_ended(self, run_id: str) -> None:
        """So that late hints and lagging lists do not begin it again."""
        self._ended[run_id] = None
        if len(self._ended) > ENDED_REMEMBERED:
            del self._ended[next(iter(self._ended))]


async def _cancelled(tasks: Collection[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
