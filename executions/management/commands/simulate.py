"""manage.py simulate: executions that live and end by the one write path, without Temporal."""

import math
import secrets
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import islice
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from executions import simulation
from executions.document import rfc3339
from executions.identifiers import EXECUTION_ID_FORM, is_execution_id
from executions.models import Activity, Execution
from executions.recording import ExecutionExistsError, NewActivity, changing, create_execution
from executions.statuses import ActivityStatus, ExecutionStatus

REPORT_SECONDS: Final = 1.0
INTERRUPTED: Final = 130
_IDS_PER_QUERY: Final = 500
_SLOWEST_RATE: Final = 0.001


class Command(BaseCommand):
    help = (
        "Write simulated executions, without Temporal, until each of them has ended: their "
        "activities are queued, run, report progress, back off, are retried or paused, fail, "
        "are skipped or cancelled; signals come. "
        "The same seed tells the same lives."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--executions", type=_whole_number(1), default=1, metavar="N", help="default: 1"
        )
        parser.add_argument(
            "--activities",
            type=_whole_number(0),
            default=5,
            metavar="M",
            help="activities of each execution; default: 5",
        )
        parser.add_argument(
            "--changes-per-second",
            type=_rate,
            default=10.0,
            metavar="R",
            help="of all executions together; 0 is as fast as it can; default: 10",
        )
        parser.add_argument(
            "--seed", type=int, metavar="S", help="default: a random one, told on standard error"
        )
        parser.add_argument(
            "--execution-id",
            type=_execution_id,
            metavar="ID",
            help="the id of the execution, if it is only one; default: made from the seed",
        )

    def handle(
        self,
        *,
        executions: int,
        activities: int,
        changes_per_second: float,
        seed: int | None,
        execution_id: str | None,
        **options: Any,
    ) -> None:
        if execution_id is not None and executions != 1:
            raise CommandError("--execution-id names one execution: leave out --executions")
        if seed is None:
            seed = secrets.randbelow(2**32)
            self._tell(f"the seed is {seed}")
        ids = simulation.execution_ids(seed, executions) if execution_id is None else [execution_id]
        _refuse_existing(ids)
        run = _Run(changes_per_second, self._tell)
        try:
            for step in simulation.steps(seed, executions, activities, execution_id=execution_id):
                run.wait_for_turn()
                _record(step)
                run.count(step)
        except ExecutionExistsError as error:
            raise CommandError(f"{error}: {_CHOOSE_ANOTHER}") from error
        except KeyboardInterrupt:
            self.stdout.write(f"interrupted; {run.told()}")
            raise SystemExit(INTERRUPTED) from None
        self.stdout.write(run.told())

    def _tell(self, line: str) -> None:
        self.stderr.write(line, self.style.NOTICE)


class _Run:
    """Keeps the pace, counts, and reports once a second."""

    def __init__(self, changes_per_second: float, report: Callable[[str], None]) -> None:
        self._seconds_per_change = 1 / changes_per_second if changes_per_second else 0.0
        self._report = report
        self._began = time.monotonic()
        self._next_report = self._began + REPORT_SECONDS
        self._created = self._ended = self._changes = 0

    def wait_for_turn(self) -> None:
        """Return when the next change is due, counted from the beginning so as not to drift."""
        due = self._began + self._changes * self._seconds_per_change
        while True:
            now = time.monotonic()
            if now >= self._next_report:
                self._report(self.told())
                self._next_report = now + REPORT_SECONDS
            if now >= due:
                return
            time.sleep(min(due, self._next_report) - now)

    def count(self, step: simulation.Step) -> None:
        self._changes += 1
        if isinstance(step, simulation.Creation):
            self._created += 1
        elif step.status is not None and step.status.is_final:
            self._ended += 1

    def told(self) -> str:
        seconds = max(time.monotonic() - self._began, 0.001)
        return (
            f"executions: {self._created} created, {self._ended} ended; changes: "
            f"{self._changes} in {seconds:.1f} s, {self._changes / seconds:.1f} a second"
        )


def _record(step: simulation.Step) -> None:
    if isinstance(step, simulation.Creation):
        planned = step.execution
        create_execution(
            execution_id=planned.execution_id,
            workflow_id=planned.workflow_id,
            workflow_type=planned.workflow_type,
            activities=[
                NewActivity(
                    activity_id=activity.activity_id,
                    activity_name=activity.activity_name,
                    depends_on=activity.depends_on,
                )
                for activity in planned.activities
            ],
        )
        return
    with changing(step.execution_id) as change:
        for state in step.activities:
            _apply(state, change.activity(state.activity_id))
        if step.status is ExecutionStatus.RUNNING:
            change.execution.started_at = timezone.now()
        elif step.status is not None:
            change.execution.completed_at = timezone.now()
        if step.status is not None:
            change.execution.status = step.status
            change.execution.error_details = step.error_details
        if step.point is not None:
            change.execution.latest_point = {
                "kind": step.point.kind,
                "name": step.point.name,
                "at": rfc3339(timezone.now()),
            }


def _apply(state: simulation.ActivityState, activity: Activity) -> None:
    now = timezone.now()
    if state.is_scheduled and activity.scheduled_at is None:
        activity.scheduled_at = now
    if state.status is ActivityStatus.RUNNING and activity.status != ActivityStatus.RUNNING:
        activity.started_at = now
    elif state.status.is_final and state.status is not ActivityStatus.SKIPPED:
        activity.completed_at = now
    if state.backoff_seconds is None:
        activity.next_attempt_at = None
    elif activity.next_attempt_at is None:
        activity.next_attempt_at = now + timedelta(seconds=state.backoff_seconds)
    activity.status = state.status
    activity.pending_state = state.pending_state
    activity.attempt = state.attempt
    activity.progress = state.progress
    activity.error_details = state.error_details


_CHOOSE_ANOTHER: Final = "choose another --seed or --execution-id"


def _refuse_existing(execution_ids: Iterable[str]) -> None:
    remaining = iter(execution_ids)
    while some := list(islice(remaining, _IDS_PER_QUERY)):
        existing = Execution.objects.filter(pk__in=some).values_list("pk", flat=True).first()
        if existing is not None:
            raise CommandError(f"there is an execution {existing} already: {_CHOOSE_ANOTHER}")


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if text.isascii() and text.isdigit() and least <= int(text):
            return int(text)
        raise ArgumentTypeError(f"{text!r} is not a whole number from {least}")

    return parse


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if rate == 0 or _SLOWEST_RATE <= rate < math.inf:
        return rate
    raise ArgumentTypeError(f"{text!r} is not a number from {_SLOWEST_RATE}, nor 0")


def _execution_id(text: str) -> str:
    if is_execution_id(text):
        return text
    raise ArgumentTypeError(f"{text!r} is not an execution id: it has the form {EXECUTION_ID_FORM}")
