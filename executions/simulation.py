"""Simulated executions, as steps to be recorded. Pure: the seed decides everything.

An execution's life depends on the seed and its index alone, so the same seed tells the
same lives however many executions there are beside them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID, uuid5

from executions.document import JsonObject
from executions.statuses import ActivityStatus, ExecutionStatus

OPEN_EXECUTIONS: Final = 1_000
"""Most executions under way at one time; further ones begin as these end."""

_NAMESPACE: Final = UUID("6f0d1c6e-9d0b-4d55-8a5c-0b8f5f0a7b1e")
_WORKFLOW_TYPES: Final = ("OrderFulfilment", "MonthlyReport", "ImageImport", "AccountClosing")
_ACTIVITY_NAMES: Final = (
    "fetch_data",
    "validate_input",
    "process_data",
    "convert_format",
    "update_index",
    "request_approval",
    "send_notification",
    "cleanup",
)
_FAILURES: Final = (
    {"type": "ConnectionError", "message": "the remote end closed the connection"},
    {"type": "TimeoutError", "message": "no answer within 30 s"},
    {"type": "ValueError", "message": "the record has no amount"},
)
_NEAREST_DEPENDENCIES: Final = 8
_MOST_RETRIES: Final = 2
_MOST_PROGRESS_REPORTS: Final = 3


@dataclass(frozen=True, slots=True)
class PlannedActivity:
    activity_id: str
    activity_name: str
    depends_on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlannedExecution:
    execution_id: str
    workflow_id: str
    workflow_type: str
    activities: tuple[PlannedActivity, ...]


@dataclass(frozen=True, slots=True)
class Creation:
    """The step that creates an execution, with all its activities pending."""

    execution: PlannedExecution

    @property
    def execution_id(self) -> str:
        return self.execution.execution_id


@dataclass(frozen=True, slots=True)
class ActivityState:
    """What an activity comes to be in a step; fields as in the document."""

    activity_id: str
    status: ActivityStatus
    attempt: int
    progress: float | None = None
    error_details: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an execution; `status` is None where the execution's own stays."""

    execution_id: str
    activities: tuple[ActivityState, ...] = ()
    status: ExecutionStatus | None = None
    error_details: JsonObject | None = None


Step = Creation | Change


def execution_ids(seed: int, count: int) -> Iterator[str]:
    """The ids that `steps` gives to its executions, in order."""
    return (str(uuid5(_NAMESPACE, f"{seed}/{index}")) for index in range(count))


def steps(
    seed: int, executions: int, activities: int, *, execution_id: str | None = None
) -> Iterator[Step]:
    """Every step of every execution, interleaved at random, until all are final.

    Each of `executions` has as many `activities`. `execution_id` names the only one.
    """
    if execution_id is not None and executions != 1:
        raise ValueError("an execution_id names one execution: executions must be 1")
    turns = Random(f"{seed}/turns")
    ids = iter([execution_id]) if execution_id is not None else execution_ids(seed, executions)
    waiting = (
        _life(Random(f"{seed}/{index}"), f"simulated-{seed}-{index}", name, activities)
        for index, name in enumerate(ids)
    )
    under_way = [life for life, _ in zip(waiting, range(OPEN_EXECUTIONS), strict=False)]
    while under_way:
        turn = turns.randrange(len(under_way))
        step = next(under_way[turn], None)
        if step is not None:
            yield step
            continue
        follower = next(waiting, None)
        last = under_way.pop()
        if follower is not None:
            under_way.append(last)
            under_way[turn] = follower
        elif turn < len(under_way):
            under_way[turn] = last


def _life(random: Random, workflow_id: str, execution_id: str, activities: int) -> Iterator[Step]:
    planned = _planned_activities(random, activities)
    yield Creation(
        PlannedExecution(execution_id, workflow_id, random.choice(_WORKFLOW_TYPES), planned)
    )
    yield Change(execution_id, status=ExecutionStatus.RUNNING)
    graph = _Graph(random, planned)
    end = random.choices(_ENDS, _WEIGHTS)[0]
    cancelled_after: int | None = None
    if end is ExecutionStatus.FAILED:
        graph.let_one_fail()
    elif end is ExecutionStatus.CANCELLED:
        cancelled_after = random.randint(0, 4 * activities)
    for count, state in enumerate(graph.movements()):
        if count == cancelled_after:
            yield Change(
                execution_id, (*graph.abandoned(state.activity_id),), ExecutionStatus.CANCELLED
            )
            return
        yield Change(execution_id, (state,))
    failed = graph.failure
    yield Change(
        execution_id,
        status=ExecutionStatus.COMPLETED if failed is None else ExecutionStatus.FAILED,
        error_details=failed,
    )


_ENDS: Final = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
_WEIGHTS: Final = (7, 2, 1)


def _planned_activities(random: Random, count: int) -> tuple[PlannedActivity, ...]:
    planned: list[PlannedActivity] = []
    for position in range(count):
        name = random.choice(_ACTIVITY_NAMES)
        near = planned[-_NEAREST_DEPENDENCIES:]
        needed = random.sample(near, min(len(near), random.choice((0, 1, 1, 1, 2, 3))))
        depends_on = tuple(sorted(activity.activity_id for activity in needed))
        planned.append(PlannedActivity(f"{name}-{position + 1}", name, depends_on))
    return tuple(planned)
