"""Following a run: what is recorded when, in virtual time, without a server or a database."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from django.db import OperationalError
from temporalio.api.history.v1 import HistoryEvent

from executions.statuses import ActivityStatus
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.following.history_reader import RunGoneError
from executions.temporal.following.run_follower import (
    DESCRIBE_SECONDS,
    DESCRIBED_PER_SECOND,
    QUIET_SECONDS,
    RunFollower,
)
from executions.temporal.history.changes import RunClosed
from executions.temporal.history.plan import PlannedActivity
from executions.temporal.live.descriptions import DescribedActivity
from executions.temporal.live.precedence import Standing
from tests.unit import virtual_time

NOW = datetime(2026, 1, 2, tzinfo=UTC)
QUEUED = DescribedActivity(
    engine_activity_id="a",
    scheduled_at=NOW,
    standing=Standing(1, ActivityStatus.PENDING),
    started_at=None,
    error=None,
    progress=None,
    notes=(),
)
RUNNING = replace(QUEUED, standing=Standing(1, ActivityStatus.RUNNING), started_at=NOW)


class History:
    """Gives the pages that the test puts, and then waits."""

    def __init__(self) -> None:
        self._pages: asyncio.Queue[Sequence[HistoryEvent] | Exception] = asyncio.Queue()
        self._last = 0

    def put(self, *kinds: str, activity_id: str = "a", scheduled_event_id: int = 2) -> None:
        page = []
        for kind in kinds:
            self._last += 1
            event = HistoryEvent(event_id=self._last)
            told: Any = getattr(event, f"{kind}_event_attributes")
            told.SetInParent()
            if kind == "activity_task_scheduled":
                told.activity_id = activity_id
                told.activity_type.name = "do"
            elif kind.startswith("activity_task"):
                told.scheduled_event_id = scheduled_event_id
            page.append(event)
        self._pages.put_nowait(page)

    def fail(self, error: Exception) -> None:
        self._pages.put_nowait(error)

    async def next_page(self) -> Sequence[HistoryEvent]:
        page = await self._pages.get()
        if isinstance(page, Exception):
            raise page
        return page


class Describer:
    def __init__(self) -> None:
        self.moments: list[float] = []
        self.answer: list[DescribedActivity] = []
        self.problems: list[Exception] = []
        self.meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def pending(self) -> Sequence[DescribedActivity]:
        self.moments.append(asyncio.get_running_loop().time())
        if self.problems:
            raise self.problems.pop(0)
        answer = list(self.answer)
        if self.meanwhile is not None:
            await self.meanwhile()
        return answer


class Database:
    """Notes what it is given to record."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, Any]] = []
        self.positions: list[int] = []
        self.plan: tuple[PlannedActivity, ...] = ()
        self.problems: list[Exception] = []

    async def run(self, job: Callable[..., Any], run_id: str, told: Any, *more: int) -> Any:
        assert run_id == "run"
        await asyncio.sleep(0)
        if self.problems:
            raise self.problems.pop(0)
        self.jobs.append((job.__name__, told))
        self.positions += more
        return self.plan if job.__name__ == "record_start" else None

    def kinds(self) -> list[list[str]]:
        """What was recorded of the history, after its start."""
        return [
            [type(each).__name__ for each in told]
            for name, told in self.jobs
            if name == "record_history"
        ]

    def described(self) -> list[dict[str, DescribedActivity]]:
        return [told for name, told in self.jobs if name == "record_descriptions"]


class Following:
    def __init__(self, position: int = 0) -> None:
        self.history = History()
        self.describer = Describer()
        self.database = Database()
        self.recorded: list[float] = []
        self.follower = RunFollower(
            "workflow",
            "run",
            position,
            self.history,
            self.describer,
            cast(DatabaseThreads, self.database),
            lambda: self.recorded.append(asyncio.get_running_loop().time()),
        )
        self.task = asyncio.create_task(self.follower.follow())


def following(
    act: Callable[[Following], Coroutine[Any, Any, None]], position: int = 0
) -> Following:
    async def main() -> Following:
        run = Following(position)
        await act(run)
        run.task.cancel()
        await asyncio.gather(run.task, return_exceptions=True)
        return run

    return virtual_time.run(main())


def test_history_is_recorded_page_by_page_with_its_position() -> None:
    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        await virtual_time.settle()
        assert run.recorded == [0.0]
        run.history.put("activity_task_started", "activity_task_completed")
        run.history.put("workflow_execution_completed")
        end = await run.task
        assert isinstance(end, RunClosed)

    run = following(act)
    assert [name for name, _ in run.database.jobs][:2] == ["record_start", "record_history"]
    assert run.database.kinds() == [
        ["ActivityScheduled"],
        ["ActivityStarted", "ActivityClosed"],
        ["RunClosed"],
    ]
    assert run.database.positions == [2, 4, 5]


def test_what_was_recorded_before_is_read_and_not_recorded_again() -> None:
    async def act(run: Following) -> None:
        run.history.put(
            "workflow_execution_started",
            "activity_task_scheduled",
            "activity_task_started",
            "activity_task_completed",
        )
        await virtual_time.settle()

    run = following(act, position=3)
    assert run.database.kinds() == [["ActivityClosed"]]


def test_plan_of_the_execution_names_its_activities() -> None:
    async def act(run: Following) -> None:
        run.database.plan = (PlannedActivity("planned", "do"),)
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        await virtual_time.settle()

    [_, (_, [scheduled])] = following(act).database.jobs
    assert scheduled.activity_id == "planned"


def test_database_that_is_away_is_waited_for() -> None:
    async def act(run: Following) -> None:
        run.database.problems = [OperationalError("away")] * 5
        run.history.put("workflow_execution_started")
        run.history.put("workflow_execution_completed")
        assert isinstance(await run.task, RunClosed)

    assert following(act).database.kinds() == [["RunClosed"]]


def test_run_that_is_gone_ends_the_following() -> None:
    async def act(run: Following) -> None:
        run.history.fail(RunGoneError("gone"))
        with pytest.raises(RunGoneError):
            await run.task

    following(act)


def test_finishing_records_what_is_there_and_returns() -> None:
    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started")
        run.history.put("activity_task_scheduled")
        run.follower.finish()
        assert await run.task is None
        assert asyncio.get_running_loop().time() == pytest.approx(QUIET_SECONDS)

    assert following(act).database.kinds() == [["ActivityScheduled"]]


def test_run_is_described_only_while_something_is_pending() -> None:
    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started")
        await asyncio.sleep(10 * DESCRIBE_SECONDS)
        assert run.describer.moments == []
        run.history.put("activity_task_scheduled")
        await asyncio.sleep(3.5 * DESCRIBE_SECONDS)
        run.history.put("activity_task_completed")
        await asyncio.sleep(10 * DESCRIBE_SECONDS)

    moments = following(act).describer.moments
    assert moments == pytest.approx([(10 + n) * DESCRIBE_SECONDS for n in (1, 2, 3)])


def test_description_is_recorded_when_it_is_another() -> None:
    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        for answer in (QUEUED, QUEUED, RUNNING, RUNNING):
            run.describer.answer = [answer, replace(answer, engine_activity_id="unknown")]
            await asyncio.sleep(DESCRIBE_SECONDS)

    assert following(act).database.described() == [{"a": QUEUED}, {"a": RUNNING}]


def test_description_from_before_an_id_was_used_again_is_of_the_earlier_one() -> None:
    async def act(run: Following) -> None:
        async def meanwhile() -> None:
            run.history.put("activity_task_completed", "activity_task_scheduled")
            await virtual_time.settle()

        run.history.put("workflow_execution_started", "activity_task_scheduled")
        run.describer.answer, run.describer.meanwhile = [RUNNING], meanwhile
        await asyncio.sleep(DESCRIBE_SECONDS * 1.5)

    assert following(act).database.described() == [{"a": RUNNING}]


def test_many_pending_activities_are_described_less_often() -> None:
    many = 4 * DESCRIBED_PER_SECOND

    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started")
        for number in range(many):
            run.history.put("activity_task_scheduled", activity_id=str(number))
        await asyncio.sleep(9)

    assert len(following(act).describer.moments) in (2, 3)


def test_description_that_fails_is_tried_again_and_ends_nothing() -> None:
    async def act(run: Following) -> None:
        run.history.put("workflow_execution_started", "activity_task_scheduled")
        run.describer.problems = [ZeroDivisionError("a mistake")]
        run.describer.answer = [RUNNING]
        await asyncio.sleep(2.5 * DESCRIBE_SECONDS)
        assert not run.task.done()

    assert following(act).database.described() == [{"a": RUNNING}]
