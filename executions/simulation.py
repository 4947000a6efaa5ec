"""Simulated executions, as steps to be recorded. Pure: the seed decides everything.

An execution's life depends on the seed and its index alone, so the same seed tells the
same lives however many executions there are beside them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Final
from uuid import UUID, uuid5

from executions.document import JsonObject
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState

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
_ENDS: Final = {
    ExecutionStatus.COMPLETED: 7,
    ExecutionStatus.FAILED: 2,
    ExecutionStatus.CANCELLED: 1,
}
_SIGNALS: Final = ("approve", "change_address", "add_note")
_SIGNAL_CHANCE: Final = 0.05
_PAUSE_CHANCE: Final = 0.05
_NEAREST_DEPENDENCIES: Final = 8
_MOST_RETRIES: Final = 2
_MOST_PROGRESS_REPORTS: Final = 3
_FIRST_BACKOFF_SECONDS: Final = 1.0


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
    """What an activity comes to be in a step; fields as in the document.

    `backoff_seconds` is how long after the step its next attempt is due, None where none is.
    """

    activity_id: str
    status: ActivityStatus
    attempt: int
    is_scheduled: bool
    pending_state: PendingState | None = None
    backoff_seconds: float | None = None
    progress: float | None = None
    error_details: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """Something that happens in the run and is no activity, at the time of its step."""

    kind: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an execution; `status` is None where the execution's own stays."""

    execution_id: str
    activities: tuple[ActivityState, ...] = ()
    status: ExecutionStatus | None = None
    error_details: JsonObject | None = None
    point: Point | None = None


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
    ids = execution_ids(seed, executions) if execution_id is None else iter([execution_id])
    waiting = (
        _life(Random(f"{seed}/{index}"), name, f"simulated-{seed}-{index}", activities)
        for index, name in enumerate(ids)
    )
    turns = Random(f"{seed}/turns")
    under_way = list(islice(waiting, OPEN_EXECUTIONS))
    while under_way:
        turn = turns.randrange(len(under_way))
        step = next(under_way[turn], None)
        if step is not None:
            yield step
            continue
        under_way[turn] = under_way[-1]
        under_way.pop()
        under_way += islice(waiting, 1)


def _life(random: Random, execution_id: str, workflow_id: str, activities: int) -> Iterator[Step]:
    planned = _planned_activities(random, activities)
    workflow_type = random.choice(_WORKFLOW_TYPES)
    yield Creation(PlannedExecution(execution_id, workflow_id, workflow_type, planned))
    yield Change(execution_id, status=ExecutionStatus.RUNNING)
    graph = _Graph(random, planned)
    end = random.choices(list(_ENDS), list(_ENDS.values()))[0]
    if end is ExecutionStatus.FAILED:
        graph.let_one_fail()
    cancelled_after = (
        random.randint(0, 4 * activities) if end is ExecutionStatus.CANCELLED else None
    )
    moves = 0
    while graph.can_move:
        if moves == cancelled_after:
            yield Change(execution_id, graph.asked_to_cancel(), point=Point("cancel_requested"))
            yield Change(execution_id, graph.abandoned(), ExecutionStatus.CANCELLED)
            return
        if random.random() < _SIGNAL_CHANCE:
            yield Change(execution_id, point=Point("signal", random.choice(_SIGNALS)))
        yield Change(execution_id, (graph.move(),))
        moves += 1
    status = ExecutionStatus.COMPLETED if graph.failure is None else ExecutionStatus.FAILED
    yield Change(execution_id, status=status, error_details=graph.failure)


def _planned_activities(random: Random, count: int) -> tuple[PlannedActivity, ...]:
    planned: list[PlannedActivity] = []
    for position in range(count):
        name = random.choice(_ACTIVITY_NAMES)
        near = planned[-_NEAREST_DEPENDENCIES:]
        needed = random.sample(near, min(len(near), random.choice((0, 1, 1, 1, 2, 3))))
        depends_on = tuple(activity.activity_id for activity in needed)
        planned.append(PlannedActivity(f"{name}-{position + 1}", name, depends_on))
    return tuple(planned)


@dataclass(slots=True)
class _Activity:
    """One activity on its way, and what it is going to meet."""

    activity_id: str
    failing_attempts: int
    progress_reports: int
    end: ActivityStatus = ActivityStatus.COMPLETED
    status: ActivityStatus = ActivityStatus.PENDING
    attempt: int = 1
    reported: int = 0
    is_scheduled: bool = False
    pending_state: PendingState | None = None
    backoff_seconds: float | None = None
    error_details: JsonObject | None = None

    def move(self, random: Random) -> ActivityState:
        """Go one step on."""
        if self.status is ActivityStatus.RUNNING:
            self._work_on(random)
        elif self.end is ActivityStatus.SKIPPED:
            self.status = self.end
        elif not self.is_scheduled:
            self.is_scheduled = True
        elif self.pending_state is None and random.random() < _PAUSE_CHANCE:
            self.pending_state = PendingState.PAUSED
        elif self.backoff_seconds is not None and random.random() < 0.5:
            self.backoff_seconds = None  # due, and no worker has taken it yet
        else:
            self._begin_attempt()
        return self.state()

    def ask_to_cancel(self) -> ActivityState:
        self.pending_state = PendingState.CANCEL_REQUESTED
        return self.state()

    def abandon(self) -> ActivityState:
        """End it because its execution is cancelled."""
        self._end(ActivityStatus.CANCELLED if self.is_scheduled else ActivityStatus.SKIPPED)
        return self.state()

    def state(self) -> ActivityState:
        told = self.status is ActivityStatus.RUNNING and self.reported
        progress = round(self.reported / (self.progress_reports + 1), 2) if told else None
        return ActivityState(
            self.activity_id,
            self.status,
            self.attempt,
            self.is_scheduled,
            self.pending_state,
            self.backoff_seconds,
            progress,
            self.error_details,
        )

    def _begin_attempt(self) -> None:
        if self.status is ActivityStatus.RETRYING:
            self.attempt += 1
            self.reported = 0
        self.status = ActivityStatus.RUNNING
        self.pending_state = self.backoff_seconds = None

    def _work_on(self, random: Random) -> None:
        if self.reported < self.progress_reports:
            self.reported += 1
        elif self.attempt <= self.failing_attempts:
            self.status = ActivityStatus.RETRYING
            self.error_details = random.choice(_FAILURES)
            self.backoff_seconds = _FIRST_BACKOFF_SECONDS * 2 ** (self.attempt - 1)
        else:
            failed = self.end is ActivityStatus.FAILED
            self.error_details = random.choice(_FAILURES) if failed else None
            self._end(self.end)

    def _end(self, status: ActivityStatus) -> None:
        self.status = status
        self.pending_state = self.backoff_seconds = None


class _Graph:
    """The activities of one execution, and which of them can go on."""

    def __init__(self, random: Random, planned: Sequence[PlannedActivity]) -> None:
        self._random = random
        self._activities = [
            _Activity(
                activity.activity_id,
                failing_attempts=max(0, random.randint(-6, _MOST_RETRIES)),
                progress_reports=random.randint(0, _MOST_PROGRESS_REPORTS),
            )
            for activity in planned
        ]
        by_id = {activity.activity_id: index for index, activity in enumerate(planned)}
        self._dependents: list[list[int]] = [[] for _ in planned]
        for index, activity in enumerate(planned):
            for needed in activity.depends_on:
                self._dependents[by_id[needed]].append(index)
        self._unmet = [len(activity.depends_on) for activity in planned]
        self._movable = [index for index, unmet in enumerate(self._unmet) if unmet == 0]
        self.failure: JsonObject | None = None

    @property
    def can_move(self) -> bool:
        return bool(self._movable)

    def let_one_fail(self) -> None:
        """Decide that one activity fails for good; what depends on it will be skipped."""
        if self._activities:
            self._random.choice(self._activities).end = ActivityStatus.FAILED

    def move(self) -> ActivityState:
        """Let any activity that can go on do so."""
        slot = self._random.randrange(len(self._movable))
        index = self._movable[slot]
        state = self._activities[index].move(self._random)
        if state.status.is_final:
            self._movable[slot] = self._movable[-1]
            self._movable.pop()
            self._tell_dependents(index, state)
        return state

    def asked_to_cancel(self) -> tuple[ActivityState, ...]:
        """Ask everything that runs to stop."""
        return tuple(
            activity.ask_to_cancel()
            for activity in self._activities
            if activity.status is ActivityStatus.RUNNING
        )

    def abandoned(self) -> tuple[ActivityState, ...]:
        """End everything that has not ended."""
        return tuple(
            activity.abandon() for activity in self._activities if not activity.status.is_final
        )

    def _tell_dependents(self, index: int, state: ActivityState) -> None:
        if state.status is ActivityStatus.FAILED:
            self.failure = state.error_details
        for dependent in self._dependents[index]:
            activity = self._activities[dependent]
            if state.status is ActivityStatus.COMPLETED:
                self._unmet[dependent] -= 1
                if self._unmet[dependent] == 0:
                    self._movable.append(dependent)
            elif activity.end is not ActivityStatus.SKIPPED:
                activity.end = ActivityStatus.SKIPPED
                self._movable.append(dependent)
