"""Any sequence of changes, from any number of writers, is told as it is held.

Writers are threads with a database connection of their own each. They take turns, in
an order that Hypothesis chooses; between its turns a writer keeps the model objects that
it loaded, so that it saves stale ones. Beside the database runs a model of plain dicts
that only knows which values were accepted.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from executions.document import rfc3339
from executions.events import CommittedEvent
from executions.models import Activity, Execution
from executions.recording import Change, NewActivity, RecordingError, changing
from executions.signals import events_committed
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from executions.values import storable_text
from tests.samples import an_execution, shown_activity
from tests.truth import assert_log_is_whole, document_of_rows, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

DEADLINE_SECONDS = 20
FINAL_RANK = 3
Fields = dict[str, Any]

texts = st.text(st.characters(exclude_categories=()), min_size=1, max_size=8)
details = st.none() | st.fixed_dictionaries({"type": st.none() | texts, "message": texts})
links = st.sampled_from([None, "a", "b-1", "no/link"])
points = st.none() | st.fixed_dictionaries(
    {"kind": texts, "name": st.none() | texts, "at": st.just("2026-01-02T03:04:05.678901Z")}
)
moments = st.none() | st.datetimes(timezones=st.just(UTC))
# mostly what is allowed, so that histories get long
execution_changes = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["running", "running", "pending"]),
        "run_id": st.none() | texts,
        "workflow_type": texts,
        "started_at": moments,
        "error_details": details,
        "next_execution_id": links,
        "latest_point": points,
    },
).filter(len)
activity_changes = st.fixed_dictionaries(
    {},
    optional={
        "attempt": st.integers(1, 3),
        "status": st.sampled_from(list(ActivityStatus)),
        "pending_state": st.none() | st.sampled_from(list(PendingState)),
        "activity_name": texts,
        "scheduled_at": moments,
        "started_at": moments,
        "next_attempt_at": moments,
        "child_execution_id": links,
        "error_details": details,
        "depends_on": st.lists(texts, max_size=3),
        "progress": st.none() | st.floats(0, 1) | st.sampled_from([-0.0, 1, 1.5]),
    },
).filter(len)
some_changes = st.dictionaries(st.integers(0, 3), activity_changes, min_size=1, max_size=3)
final_statuses = st.sampled_from([status for status in ExecutionStatus if status.is_final])
writers = st.integers(0, 2)


class RolledBackError(Exception):
    """A writer's own transaction ends without a commit."""


def progress_of(activity: Fields) -> tuple[int, int]:
    """(retries, rank of the status) of an activity of the document: it only grows."""
    ranks = {"pending": 0, "running": 1, "retrying": 2}
    return activity["retry_count"], ranks.get(activity["status"], FINAL_RANK)


def as_shown(fields: Fields) -> Fields:
    """What the document shows of accepted fields."""
    shown: Fields = {}
    for name, value in fields.items():
        match name, value:
            case "attempt", _:
                shown["retry_count"] = value - 1
            case _, datetime():
                shown[name] = rfc3339(value)
            case _, str():
                shown[name] = storable_text(value)
            case "depends_on", _:
                shown[name] = list(dict.fromkeys(map(storable_text, value)))
            case "error_details" | "latest_point", dict():
                shown[name] = {key: part and storable_text(part) for key, part in value.items()}
            case _:
                shown[name] = value
    return shown


@dataclass
class Writer:
    """A thread, and the objects it loaded in an earlier turn."""

    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    loaded: list[Execution | Activity] = field(default_factory=list)

    def turn(self, act: Callable[[], None]) -> bool:
        """Let it act; whether it was accepted."""
        try:
            self.thread.submit(act).result(DEADLINE_SECONDS)
        except (RecordingError, RolledBackError):
            return False
        return True

    def leave(self) -> None:
        self.thread.submit(lambda: connection.close()).result(DEADLINE_SECONDS)
        self.thread.shutdown()


class Histories(RuleBasedStateMachine):
    @initialize(activity_count=st.integers(1, 3), text=texts)
    def begin(self, activity_count: int, text: str) -> None:
        self.heard: list[CommittedEvent] = []
        events_committed.connect(self.hear)
        self.writers = [Writer() for _ in range(3)]
        self.execution_id = f"e-{uuid4()}"
        self.names = [f"{text} {number}" for number in range(activity_count)]
        an_execution(*self.names, execution_id=self.execution_id, status="pending")
        self.expected = document_of_rows(self.execution_id)

    def hear(self, execution_id: str, events: Any, **_: Any) -> None:
        assert execution_id == self.execution_id
        self.heard.extend(events)

    def expect(self, execution: Fields, activities: dict[int, Fields], added: list[str]) -> None:
        """Take accepted fields into the model."""
        self.expected |= as_shown(execution)
        for position, fields in activities.items():
            activity = self.expected["activities"][position]
            before = progress_of(activity)
            activity |= as_shown(fields)
            after = progress_of(activity)
            assert after >= before, f"{after} was accepted after {before}"
            assert after == before or before[1] < FINAL_RANK, f"{after} came after the end"
        for name in added:
            self.names.append(name)
            self.expected["activities"].append(
                shown_activity(storable_text(name), storable_text(name))
            )

    def existing(self, activities: dict[int, Fields]) -> dict[int, Fields]:
        return {place: what for place, what in activities.items() if place < len(self.names)}

    def make(
        self, change: Change, execution: Fields, activities: dict[int, Fields], added: list[str]
    ) -> None:
        for name, value in execution.items():
            setattr(change.execution, name, value)
        for position, fields in activities.items():
            for name, value in fields.items():
                setattr(change.activity(self.names[position]), name, value)
        for new in added:
            change.add_activity(NewActivity(activity_id=new, activity_name=new))

    @rule(
        writer=writers,
        execution=execution_changes,
        activities=some_changes,
        added=st.lists(texts, max_size=2),
    )
    def change(
        self, writer: int, execution: Fields, activities: dict[int, Fields], added: list[str]
    ) -> None:
        activities = self.existing(activities)

        def act() -> None:
            with changing(self.execution_id) as change:
                self.make(change, execution, activities, added)

        if self.writers[writer].turn(act):
            self.expect(execution, activities, added)

    @rule(
        writer=writers,
        first=some_changes,
        second=some_changes,
        commits=st.sampled_from([True, True, False]),
    )
    def change_twice_in_one_transaction(
        self, writer: int, first: dict[int, Fields], second: dict[int, Fields], commits: bool
    ) -> None:
        first, second = self.existing(first), self.existing(second)

        def act() -> None:
            with transaction.atomic():
                for activities in (first, second):
                    with changing(self.execution_id) as change:
                        self.make(change, {}, activities, [])
                if not commits:
                    raise RolledBackError

        if self.writers[writer].turn(act):
            self.expect({}, first, [])
            self.expect({}, second, [])

    @rule(writer=writers)
    def load(self, writer: int) -> None:
        def act() -> None:
            execution = Execution.objects.get(pk=self.execution_id)
            activities = Activity.objects.filter(execution_id=self.execution_id)
            self.writers[writer].loaded = [execution, *activities.order_by("position")]

        assert self.writers[writer].turn(act)

    @precondition(lambda self: any(writer.loaded for writer in self.writers))
    @rule(writer=writers, execution=execution_changes, activities=some_changes)
    def save_what_was_loaded(
        self, writer: int, execution: Fields, activities: dict[int, Fields]
    ) -> None:
        asked = {0: execution} | {position + 1: what for position, what in activities.items()}
        for place, row in enumerate(self.writers[writer].loaded):
            fields = asked.get(place, {})
            before = {name: getattr(row, name) for name in fields}
            for name, value in fields.items():
                setattr(row, name, value)
            changed = {name: value for name, value in fields.items() if before[name] != value}
            if self.writers[writer].turn(row.save):
                if place == 0:
                    self.expect(changed, {}, [])
                else:
                    self.expect({}, {place - 1: changed}, [])
            else:
                for name, value in before.items():
                    setattr(row, name, value)

    @precondition(lambda self: len(self.heard) > 5 and self.expected["status"] == "running")
    @rule(writer=writers, status=final_statuses)
    def finish(self, writer: int, status: ExecutionStatus) -> None:
        def act() -> None:
            with changing(self.execution_id) as change:
                change.execution.status = status

        assert self.writers[writer].turn(act)
        self.expect({"status": status.value}, {}, [])

    @invariant()
    def what_is_told_is_what_is_held_and_was_accepted(self) -> None:
        if not hasattr(self, "expected"):
            return
        log = assert_log_is_whole(self.execution_id)
        assert document_of_rows(self.execution_id) == self.expected
        assert self.heard == log

    def teardown(self) -> None:
        events_committed.disconnect(self.hear)
        for writer in self.writers:
            writer.leave()


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


def test_any_interleaved_history_folds_to_what_rest_shows() -> None:
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
