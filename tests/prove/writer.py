"""One writing process of a proving run: `python -m tests.prove.writer RUN_FILE NAME INCARNATION`.

Changes the executions that the plan has open, and ends those whose time is over, until the
traffic's end. Each write is recorded before it begins and when its outcome is known.
"""

import sys
import time
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch

import django

from tests.prove.plan import Act, Deed, Life, Plan, Undoing, acts
from tests.prove.recorder import Recorder
from tests.prove.records import Outcome, Write
from tests.prove.run_file import read_run_file, wait_to_begin

MOST_ACTIVITIES: Final = {False: 12, True: 24}
"""Of an execution, by whether it is fat."""

LARGE_MESSAGE_CHARACTERS: Final = 3_900
FILLING_SECONDS: Final = 30.0
AFTER_A_FAILURE_SECONDS: Final = 0.2
ACTIVITIES: Final = 4


class _TakenBack(Exception):  # noqa: N818 - meant, not an error
    """Rolls a write back."""


def shift_clock(seconds: float) -> None:
    """Let this process' clock of the day go wrong by so much; call it before Django is set up."""
    from django.utils import timezone

    real_time, real_time_ns, real_now = time.time, time.time_ns, timezone.now
    nanoseconds, span = int(seconds * 1_000_000_000), timedelta(seconds=seconds)
    patch.object(time, "time", lambda: real_time() + seconds).start()
    patch.object(time, "time_ns", lambda: real_time_ns() + nanoseconds).start()
    patch.object(timezone, "now", lambda: real_now() + span).start()


class WriterProcess:
    """Does the acts of one writer's incarnation."""

    def __init__(
        self, plan: Plan, name: str, incarnation: int, recorder: Recorder, began_at: float
    ) -> None:
        self._plan = plan
        self._began_at = began_at
        self._name = name
        self._incarnation = incarnation
        self._random = Random(f"{plan.seed}:values:{name}:{incarnation}")
        self._recorder = recorder
        self._created: set[str] = set()
        self._closed: set[str] = set()
        self._markers = 0

    def write(self) -> None:
        """Write until the traffic's end."""
        for act in acts(self._plan, self._name, self._incarnation):
            time.sleep(act.pause_seconds)
            moment = time.monotonic() - self._began_at
            if moment >= self._plan.seconds:
                return
            for number in act.slots:
                for life in self._plan.slots[number].ended_at(moment):
                    if life.execution_id not in self._closed:
                        self._close(life)
            lives = [self._plan.slots[number].life_at(moment) for number in act.slots]
            for life in lives:
                if life.execution_id not in self._created:
                    self._create(life)
            if not any(life.execution_id in self._closed for life in lives):
                self._do(act, lives)

    def _create(self, life: Life) -> None:
        from executions.recording import ExecutionExistsError, NewActivity, create_execution
        from executions.statuses import ExecutionStatus

        def create(marker: str) -> None:
            try:
                create_execution(
                    execution_id=life.execution_id,
                    workflow_id=life.secret,
                    workflow_type="Proved",
                    run_id=marker,
                    status=ExecutionStatus.RUNNING,
                    activities=[
                        NewActivity(activity_id=f"step-{number}", activity_name="step")
                        for number in range(ACTIVITIES)
                    ],
                )
            except ExecutionExistsError:
                self._created.add(life.execution_id)
                raise
            self._created.add(life.execution_id)

        self._try([life], lambda markers: create(markers[0]))

    def _close(self, life: Life) -> None:
        from executions.recording import ExecutionClosedError, UnknownExecutionError, changing
        from executions.statuses import ExecutionStatus

        def close(marker: str) -> None:
            try:
                with changing(life.execution_id) as change:
                    change.execution.latest_point = _point(marker)
                    change.execution.status = self._random.choice(
                        [ExecutionStatus.COMPLETED, ExecutionStatus.FAILED]
                    )
            except (ExecutionClosedError, UnknownExecutionError):
                self._closed.add(life.execution_id)
                raise
            self._closed.add(life.execution_id)

        self._try([life], lambda markers: close(markers[0]))

    def _do(self, act: Act, lives: list[Life]) -> None:
        from django.db import transaction

        from executions.recording import changing
        from executions.statuses import ExecutionStatus

        is_fat = any(self._plan.slots[number].is_fat for number in act.slots)

        def do(markers: list[str]) -> None:
            with transaction.atomic():
                for life, marker in zip(lives, markers, strict=True):
                    with changing(life.execution_id) as change:
                        self._change(change, act.deed, marker, MOST_ACTIVITIES[is_fat])
                        if act.undoing is Undoing.REFUSED:
                            change.execution.status = ExecutionStatus.PENDING
                        if act.undoing is Undoing.RAISED_INSIDE:
                            raise _TakenBack
                if act.undoing is Undoing.RAISED_AFTER:
                    raise _TakenBack

        self._try(lives, do)

    def _try(self, lives: list[Life], write: Any) -> None:
        """Do it as one transaction, and record what became of it."""
        from django.db import Error as DatabaseError
        from django.db import connection

        from executions.errors import RecordingError

        began = time.monotonic()
        markers = [self._marker() for _ in lives]
        self._record(lives, markers, began, Outcome.UNKNOWN)
        try:
            write(markers)
        except (_TakenBack, RecordingError):
            self._record(lives, markers, began, Outcome.ROLLED_BACK)
        except DatabaseError:
            connection.close()
            time.sleep(AFTER_A_FAILURE_SECONDS)
        else:
            self._record(lives, markers, began, Outcome.COMMITTED)

    def _record(
        self, lives: list[Life], markers: list[str], began: float, outcome: Outcome
    ) -> None:
        told_at = None if outcome is Outcome.UNKNOWN else time.monotonic()
        for life, marker in zip(lives, markers, strict=True):
            self._recorder.add(
                Write(began, self._name, life.execution_id, marker, outcome, told_at)
            )
        self._recorder.flush()

    def _marker(self) -> str:
        self._markers += 1
        return f"mark:{self._name}:{self._incarnation}:{self._markers:06}:"

    def _change(self, change: Any, deed: Deed, marker: str, most_activities: int) -> None:
        from executions.recording import NewActivity

        if deed is Deed.MANY_ACTIVITIES:
            filling = self._random.choice("abcdé")
            for activity in change.activities():
                activity.error_details = {
                    "type": "Large",
                    "message": f"{marker} ".ljust(LARGE_MESSAGE_CHARACTERS, filling),
                }
        elif deed is Deed.ACTIVITY:
            activity = change.activity(f"step-{self._random.randrange(ACTIVITIES)}")
            self._advance(activity)
            activity.error_details = {"type": None, "message": marker}
        elif deed is Deed.ADDED_ACTIVITY and len(change.activities()) < most_activities:
            change.add_activity(NewActivity(activity_id=marker, activity_name="added"))
        else:
            change.execution.latest_point = _point(marker)

    def _advance(self, activity: Any) -> None:
        """Move the activity on, over and over: each attempt backs off, and none is the last."""
        from executions.statuses import ActivityStatus

        match ActivityStatus(activity.status):
            case ActivityStatus.PENDING:
                activity.status = ActivityStatus.RUNNING
            case ActivityStatus.RUNNING if self._random.random() < 0.7:
                activity.progress = self._random.random()
            case ActivityStatus.RUNNING:
                activity.status = ActivityStatus.RETRYING
            case _:
                activity.status = ActivityStatus.RUNNING
                activity.attempt += 1


def _point(marker: str) -> dict[str, str]:
    return {"kind": "signal", "name": marker, "at": "2026-01-02T03:04:05.678901Z"}


def main(run_file: str, name: str, incarnation: str) -> None:
    run, plan = read_run_file(Path(run_file))
    shift = next(writer for writer in plan.writers if writer.name == name).clock_shift_seconds
    if shift:
        shift_clock(shift)
    django.setup()
    from executions.signals import writing_begins
    from streaming.activity_update_publisher import publisher

    recorder = Recorder(run.records / f"{name}.jsonl")
    began_at = wait_to_begin(Path(run_file), name)
    writing_begins.send(sender=None)
    WriterProcess(plan, name, int(incarnation), recorder, began_at).write()
    publisher().wait_until_filled(FILLING_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
