"""Following a run: what is recorded when, without a server or a database."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from temporalio.api.history.v1 import HistoryEvent

from executions.temporal import run_follower
from executions.temporal.changes import Change, RunClosed
from executions.temporal.database import DatabaseThreads
from executions.temporal.hints import ActivityHint, AttemptBegan, ProgressMade
from executions.temporal.history_reader import HistoryReader
from executions.temporal.run_follower import RunFollower

NOW = datetime(2026, 1, 2, tzinfo=UTC)
Told = Change | ActivityHint


class History:
    """Gives the pages that the test puts, and then waits."""

    def __init__(self) -> None:
        self._pages: asyncio.Queue[Sequence[HistoryEvent]] = asyncio.Queue()
        self._last = 0

    def put(self, *kinds: str, activity_id: str = "a") -> None:
        page = []
        for kind in kinds:
            self._last += 1
            event = HistoryEvent(event_id=self._last)
            told: Any = getattr(event, f"{kind}_event_attributes")
            told.SetInParent()
            if kind == "activity_task_scheduled":
                told.activity_id = activity_id
            page.append(event)
        self._pages.put_nowait(page)

    async def next_page(self) -> Sequence[HistoryEvent]:
        return await self._pages.get()


class Database:
    """Notes what it is given to record, one list for each job."""

    def __init__(self) -> None:
        self.jobs: list[list[Told]] = []

    async def run(self, job: Callable[..., None], run_id: str, told: Sequence[Told]) -> None:
        assert run_id == "run"
        self.jobs.append(list(told))

    def kinds(self) -> list[list[str]]:
        return [[type(told).__name__ for told in job] for job in self.jobs]


class Following:
    def __init__(self) -> None:
        self.history = History()
        self.database = Database()
        history, database = cast(HistoryReader, self.history), cast(DatabaseThreads, self.database)
        self.follower = RunFollower("workflow", "run", history, database)
        self.task = asyncio.create_task(self.follower.follow())

    async def until(self, jobs: int) -> None:
        async with asyncio.timeout(5):
            while len(self.database.jobs) < jobs:  # noqa: ASYNC110 - the fake tells no other way
                await asyncio.sleep(0)


@asynccontextmanager
async def following() -> AsyncIterator[Following]:
    run = Following()
    yield run
    run.task.cancel()
    await asyncio.gather(run.task, return_exceptions=True)


def about(activity_id: str) -> dict[str, Any]:
    told = {"workflow_id": "workflow", "run_id": "run", "activity_id": activity_id}
    return {**told, "scheduled_at": NOW, "attempt": 1}


def began(activity_id: str = "a") -> AttemptBegan:
    return AttemptBegan(**about(activity_id), started_at=NOW)


def progress(share: float, activity_id: str = "a") -> ProgressMade:
    return ProgressMade(**about(activity_id), progress=share)


async def test_hint_waits_for_its_activity_and_no_longer() -> None:
    async with following() as run:
        run.follower.tell(began())
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        await run.until(jobs=2)
    assert run.database.kinds() == [["RunStarted", "ActivityScheduled"], ["AttemptBegan"]]


async def test_hint_of_what_has_ended_is_dropped() -> None:
    async with following() as run:
        run.history.put("workflow_execution_started")
        await run.until(jobs=1)
        run.follower.tell(began())
        run.history.put("workflow_execution_completed")
        end = await run.task
    assert isinstance(end, RunClosed)
    assert run.database.kinds() == [["RunStarted"], ["RunClosed"]]


async def test_progress_is_paced_and_its_newest_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_follower, "PROGRESS_SECONDS", 0.05)
    async with following() as run:
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        await run.until(jobs=1)
        run.follower.tell(progress(0.0))
        await run.until(jobs=2)
        for share in range(1, 6):
            run.follower.tell(progress(share / 10))
            await asyncio.sleep(0)
        run.follower.tell(began())
        await run.until(jobs=4)
    assert run.database.jobs[1:] == [[progress(0.0)], [began()], [progress(0.5)]]


async def test_progress_of_an_unknown_activity_is_dropped() -> None:
    async with following() as run:
        run.history.put("workflow_execution_started")
        await run.until(jobs=1)
        run.follower.tell(progress(0.5))
        run.history.put("activity_task_scheduled")
        await run.until(jobs=2)
        run.follower.finish()
        assert await run.task is None
    assert run.database.kinds() == [["RunStarted"], ["ActivityScheduled"]]


async def test_finishing_records_what_is_there_and_returns() -> None:
    async with following() as run:
        run.history.put("workflow_execution_started")
        run.history.put("activity_task_scheduled")
        run.follower.tell(began())
        run.follower.finish()
        assert await run.task is None
    assert run.database.kinds() == [["RunStarted"], ["ActivityScheduled"], ["AttemptBegan"]]


async def test_hints_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_follower, "HINTS_HELD", 2)
    async with following() as run:
        for name in "abc":
            run.follower.tell(began(name))
        run.history.put("workflow_execution_started")
        for name in "abc":
            run.history.put("activity_task_scheduled", activity_id=name)
        run.follower.finish()
        await run.task
    told = [hint for job in run.database.jobs for hint in job if isinstance(hint, AttemptBegan)]
    assert told == [began("a"), began("b")]
