"""How parts of the comparison write: executions, at a pace, with the moment of each commit."""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.benchmarks.side_by_side.bare import PLACEHOLDER

Told = Callable[..., None]
"""A receiver of `executions.signals.events_committed`."""


def many_allowed() -> dict[str, str]:
    """The environment of a web process that lets in as many viewers as come."""
    many = {f"NEXUS_CONNECTIONS_PER_{what}": "20000" for what in ("USER", "EXECUTION", "PROCESS")}
    return {**os.environ, **many}


def running_execution() -> str:
    """Create an execution with one running activity, `step`; its execution_id."""
    from executions.recording import NewActivity, create_execution
    from executions.statuses import ActivityStatus, ExecutionStatus

    step = NewActivity(activity_id="step", activity_name="step", status=ActivityStatus.RUNNING)
    return create_execution(
        workflow_id="w", workflow_type="W", status=ExecutionStatus.RUNNING, activities=[step]
    ).execution_id


def running_executions(count: int) -> list[str]:
    """So many of them, made in one transaction."""
    from django.db import transaction

    with transaction.atomic():
        return [running_execution() for _ in range(count)]


def advance(execution_id: str, progress: float) -> None:
    """Change the progress of the execution's step: one event."""
    from executions.recording import changing

    with changing(execution_id) as change:
        change.activity("step").progress = progress


def example_text() -> str:
    """A patch as the product sends it, with PLACEHOLDER for its event_id."""
    from executions.event_log import read_events

    execution_id = running_execution()
    advance(execution_id, 1 / 3)
    [patch] = read_events(execution_id, 0, 1)
    return patch.message.replace(str(patch.event_id), PLACEHOLDER)


def paced(count: int, per_second: float) -> Iterator[int]:
    """The numbers below `count`, each at its time, or as soon after as the caller asks."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        yield number


@contextmanager
def commits_told(
    before: Told, after: Told | None = None, *, published: bool = True
) -> Iterator[None]:
    """Until the block ends, tell of each commit before its publication, and after it.

    If not `published`, nobody else is told.
    """
    from executions.signals import events_committed

    publishing = events_committed.receivers
    events_committed.receivers = []
    events_committed.connect(before, weak=False)
    if published:
        events_committed.receivers += publishing
    if after is not None:
        events_committed.connect(after, weak=False)
    try:
        yield
    finally:
        events_committed.receivers = publishing


@dataclass(frozen=True, slots=True)
class HeldChange:
    """A committed change that is yet to be published; viewers know it by `key`."""

    key: str
    publish: Callable[[], None]


def commit_held(executions: Iterable[str]) -> list[HeldChange]:
    """Change each of the executions in one transaction, which nobody is told of.

    To be published within a second or two: then viewers' servers find it in the event log.
    """
    from django.db import transaction

    from streaming.activity_update_publisher import publish_committed

    held = []

    def hold(execution_id: str, events: tuple[Any, ...], previous: Any, **_: Any) -> None:
        publish = partial(publish_committed, execution_id, events, previous)
        held.append(HeldChange(f"{execution_id} {events[0].event_id}", publish))

    with commits_told(hold, published=False), transaction.atomic():
        for execution_id in executions:
            advance(execution_id, random.random())
    return held
