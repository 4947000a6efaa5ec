"""A process that writes changes in one of several ways, as fast as it can.

`writing()` starts it. Each way has an execution of its own in the process' database, of
ACTIVITIES activities, and a change sets the progress of one.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from itertools import count
from typing import Any, Final

from tests.servers import end_with_parent

ACTIVITIES: Final = 10


class Way(StrEnum):
    """How a change is written."""

    PLAIN = "plain saves of activity and event"
    PLAIN_WITH_HEAD = "plain saves of activity, event and execution"
    UNPUBLISHED = "Nexus, without publishing"
    NEXUS = "Nexus"


class Writer:
    """The running process of one writer."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def begin(self, way: Way, changes: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([way, changes]) + "\n")
        self._process.stdin.flush()

    def seconds_taken(self) -> float:
        """Wait for what was begun."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the writer ended before it had written everything")
        return float(line)


@contextmanager
def writing() -> Iterator[Writer]:
    """Run a writer until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent,
    )  # fmt: skip
    try:
        yield Writer(process)
    finally:
        process.kill()
        process.wait()


def an_execution(activities: int = ACTIVITIES) -> str:
    """The id of a running execution whose activities, `step-0` and so on, run."""
    from executions.recording import NewActivity, create_execution
    from executions.statuses import ActivityStatus, ExecutionStatus

    steps = [
        NewActivity(activity_id=f"step-{n}", activity_name="step", status=ActivityStatus.RUNNING)
        for n in range(activities)
    ]
    return create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=steps
    ).execution_id


def change_progress(execution_id: str, number: int, activities: int = ACTIVITIES) -> None:
    """The `number`-th change of an execution: of one activity after another."""
    from executions.recording import changing

    with changing(execution_id) as change:
        change.activity(f"step-{number % activities}").progress = _progress(number)


def _through_the_write_path() -> Callable[[int], None]:
    execution_id = an_execution()
    return lambda number: change_progress(execution_id, number)


def _by_plain_saves(*, with_head: bool = False) -> Callable[[int], None]:
    from django.db import transaction

    from executions.event_log import read_events
    from executions.models import Activity, Event, Execution

    plain_activity, plain_event = _plain(Activity), _plain(Event)
    execution_id = an_execution()
    change_progress(execution_id, 0)
    [event] = read_events(execution_id, 0, 1)
    execution = _plain(Execution).objects.get(pk=execution_id)
    rows = plain_activity.objects.filter(execution_id=execution_id).order_by("position")
    by_position = list(rows)

    def save(number: int) -> None:
        activity = by_position[number % ACTIVITIES]
        activity.progress = _progress(number)
        execution.head_sequence += 1
        execution.head_milliseconds = time.time_ns() // 1_000_000
        with transaction.atomic():
            activity.save()
            plain_event(
                execution_id=execution_id, sequence=execution.head_sequence,
                milliseconds=execution.head_milliseconds, message=event.message,
            ).save()  # fmt: skip
            if with_head:
                execution.save()

    return save


@cache
def _plain(model: Any) -> Any:
    """A model of the same table that is like any other."""
    from django.db import models

    columns = {
        field.attname: models.CharField(max_length=64) if field.is_relation else field.clone()
        for field in model._meta.concrete_fields
    }
    facts = {"app_label": "plain", "managed": False, "db_table": model._meta.db_table}
    meta = type("Meta", (), facts)
    name = f"Plain{model.__name__}"
    return type(name, (models.Model,), {**columns, "__module__": __name__, "Meta": meta})


def _progress(number: int) -> float:
    return (number * 7_919 + 1) % 100_003 / 100_003


def _run() -> None:
    import django

    django.setup()
    from tests.truth import nobody_listening

    ways: dict[Way, Callable[[int], None]] = {
        Way.PLAIN: _by_plain_saves(),
        Way.PLAIN_WITH_HEAD: _by_plain_saves(with_head=True),
        Way.UNPUBLISHED: nobody_listening()(_through_the_write_path()),
        Way.NEXUS: _through_the_write_path(),
    }
    numbers = count()
    for line in sys.stdin:
        way, changes = json.loads(line)
        write = ways[way]
        began = time.perf_counter()
        for _ in range(changes):
            write(next(numbers))
        print(time.perf_counter() - began, flush=True)  # noqa: T201


if __name__ == "__main__":
    _run()
