"""When hints are recorded, tried again and given up, in virtual time and without a database."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from django.db import OperationalError

from executions.recording import UnacceptableValueError
from executions.temporal.following import hint_recorder
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.following.hint_recorder import (
    EARLY_SECONDS,
    HEARTBEAT_SECONDS,
    HintRecorder,
)
from executions.temporal.live.hints import (
    ActivityHint,
    AttemptBegan,
    HeartbeatSent,
    Hint,
    HintQueue,
    RunSeen,
)
from tests.unit import virtual_time

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def about(run_id: str, activity_id: str) -> dict[str, Any]:
    return {
        "workflow_id": "w",
        "run_id": run_id,
        "activity_id": activity_id,
        "scheduled_at": NOW,
        "attempt": 1,
    }


def began(activity_id: str = "a", run_id: str = "r") -> AttemptBegan:
    return AttemptBegan(**about(run_id, activity_id), started_at=NOW)


def heartbeat(share: float, run_id: str = "r") -> HeartbeatSent:
    return HeartbeatSent(**about(run_id, "a"), sent_at=NOW, progress=share)


class Database:
    """Notes what is recorded and when; `early` are the activities that are not there yet."""

    def __init__(self) -> None:
        self.recorded: list[tuple[float, str, list[ActivityHint]]] = []
        self.early: set[str] = set()
        self.problems: list[Exception] = []

    async def run(
        self, job: Callable[..., Any], run_id: str, batch: Sequence[ActivityHint]
    ) -> list[ActivityHint]:
        await asyncio.sleep(0)
        if self.problems:
            raise self.problems.pop(0)
        self.recorded.append((asyncio.get_running_loop().time(), run_id, list(batch)))
        return [hint for hint in batch if hint.activity_id in self.early]

    @property
    def batches(self) -> list[list[ActivityHint]]:
        return [batch for _, _, batch in self.recorded]


class Recording:
    def __init__(self) -> None:
        self.queue = HintQueue()
        self.database = Database()
        self.seen: list[tuple[str, str]] = []
        self.recorder = HintRecorder(
            self.queue,
            cast(DatabaseThreads, self.database),
            lambda workflow_id, run_id: self.seen.append((workflow_id, run_id)),
        )
        self.recorder.begin()

    def put(self, *hints: Hint) -> None:
        for hint in hints:
            self.queue.put(hint)

    async def seconds(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def recording(act: Callable[[Recording], Any]) -> Recording:
    """What came of `act`, and of a finish after it."""

    async def main() -> Recording:
        under_test = Recording()
        await act(under_test)
        await under_test.recorder.finish(1.0)
        return under_test

    return virtual_time.run(main())


def test_statuses_are_recorded_at_once_run_by_run() -> None:
    async def act(it: Recording) -> None:
        it.put(began("a", "r"), began("b", "r"), began("a", "s"), RunSeen("w", "t"))
        await virtual_time.settle()
        assert [(at, run) for at, run, _ in it.database.recorded] == [(0.0, "r"), (0.0, "s")]

    it = recording(act)
    assert it.database.batches == [[began("a", "r"), began("b", "r")], [began("a", "s")]]
    assert it.seen == [("w", "t")]


def test_heartbeats_are_paced_and_the_newest_is_recorded() -> None:
    async def act(it: Recording) -> None:
        it.put(heartbeat(0.1))
        await virtual_time.settle()
        for share in (0.2, 0.3, 0.4):
            it.put(heartbeat(share))
            await virtual_time.settle()
        await it.seconds(HEARTBEAT_SECONDS * 3)

    it = recording(act)
    assert it.database.batches == [[heartbeat(0.1)], [heartbeat(0.4)]]
    assert it.database.recorded[1][0] == pytest.approx(HEARTBEAT_SECONDS)


def test_status_does_not_wait_for_heartbeats() -> None:
    async def act(it: Recording) -> None:
        it.put(heartbeat(0.1))
        await virtual_time.settle()
        it.put(heartbeat(0.2))
        await virtual_time.settle()
        it.put(began("b"))
        await virtual_time.settle()
        assert it.database.batches == [[heartbeat(0.1)], [began("b")]]
        await it.seconds(HEARTBEAT_SECONDS)

    assert recording(act).database.batches[2:] == [[heartbeat(0.2)]]


def test_early_hint_is_tried_again_as_soon_as_history_was_recorded() -> None:
    async def act(it: Recording) -> None:
        it.database.early = {"a"}
        it.put(began("a"))
        await virtual_time.settle()
        it.database.early = set()
        it.recorder.history_was_recorded("r")
        await virtual_time.settle()
        assert [at for at, _, _ in it.database.recorded] == [0.0, 0.0]
        it.recorder.history_was_recorded("r")
        it.recorder.history_was_recorded("unknown")
        await it.seconds(EARLY_SECONDS)

    assert recording(act).database.batches == [[began("a")], [began("a")]]


def test_early_hint_is_tried_now_and_then_for_a_while_and_given_up() -> None:
    async def act(it: Recording) -> None:
        it.database.early = {"a"}
        it.put(began("a"), heartbeat(0.5))
        await it.seconds(EARLY_SECONDS * 2)

    moments = [at for at, _, _ in recording(act).database.recorded]
    assert EARLY_SECONDS <= moments[-1] <= EARLY_SECONDS + hint_recorder.RETRY_SECONDS[1]
    assert 10 < len(moments) < 60


def test_hint_that_comes_later_is_recorded_though_an_earlier_one_waits() -> None:
    async def act(it: Recording) -> None:
        it.database.early = {"a"}
        it.put(began("a"))
        await it.seconds(3)
        before = len(it.database.recorded)
        it.put(began("b"))
        await virtual_time.settle()
        assert it.database.batches[before:] == [[began("a"), began("b")]]

    recording(act)


def test_database_that_is_away_loses_no_status() -> None:
    async def act(it: Recording) -> None:
        it.database.problems = [OperationalError("away")] * 3
        it.put(began("a"))
        await virtual_time.settle()
        it.put(began("b"))
        await it.seconds(10)

    assert recording(act).database.batches == [[began("a"), began("b")]]


def test_hints_that_can_never_be_recorded_are_dropped_and_later_ones_are_not() -> None:
    async def act(it: Recording) -> None:
        it.database.problems = [UnacceptableValueError("status", "is odd")]
        it.put(began("a"))
        await virtual_time.settle()
        it.put(began("b"))
        await virtual_time.settle()

    assert recording(act).database.batches == [[began("b")]]


def test_waiting_hints_of_all_runs_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hint_recorder, "HINTS_HELD", 3)

    async def act(it: Recording) -> None:
        it.database.problems = [
            OperationalError("away"),
            UnacceptableValueError("status", "is odd"),
        ]
        it.put(began("a", "r"), began("b", "s"), heartbeat(0.1, "s"))
        await virtual_time.settle()
        # What waits for another try, and what failed for good, count until they are done with.
        it.put(began("c", "t"), began("d", "t"), began("e", "t"))
        await it.seconds(10)
        it.put(began("f", "u"), began("g", "v"), began("h", "w"), began("i", "x"))
        await virtual_time.settle()

    recorded = [hint.activity_id for batch in recording(act).database.batches for hint in batch]
    assert sorted(recorded) == ["a", "c", "d", "f", "g", "h"]


def test_finish_records_what_is_there_and_waits_for_nothing_that_is_early() -> None:
    async def main() -> list[list[ActivityHint]]:
        it = Recording()
        it.database.early = {"early"}
        it.put(heartbeat(0.1))
        await virtual_time.settle()
        it.put(heartbeat(0.9), began("early"))
        await it.recorder.finish(1.0)
        assert virtual_time_now() == 0.0
        it.put(began("after"))
        await virtual_time.settle()
        return it.database.batches

    batches = virtual_time.run(main())
    assert batches == [[heartbeat(0.1)], [began("early"), heartbeat(0.9)]]


def test_finish_ends_in_time_though_the_database_is_away() -> None:
    async def main() -> None:
        it = Recording()
        it.database.problems = [OperationalError("away")] * 1_000
        it.put(began("a"))
        await it.recorder.finish(1.0)
        assert virtual_time_now() <= 1.0

    virtual_time.run(main())


def virtual_time_now() -> float:
    return asyncio.get_running_loop().time()
