"""What is committed is told, what is not is not: transactions, signals and writers in turn."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event as Happening
from threading import Thread, get_ident
from typing import Any

import pytest
from django.db import connection, transaction

from executions.events import CommittedEvent
from executions.models import Execution
from executions.recording import (
    ActivityExistsError,
    NewActivity,
    TransitionRefusedError,
    changing,
    ensure_execution,
)
from executions.signals import events_committed
from executions.snapshots import read_snapshot
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.samples import an_execution
from tests.truth import assert_log_is_whole, assert_patches_tell_the_truth, nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

DEADLINE_SECONDS = 20


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


class OnPurpose(BaseException):
    """What a test throws; not even an Exception, as a worker's cancellation is none."""


@contextmanager
def connected(receiver: Any) -> Iterator[None]:
    events_committed.connect(receiver, weak=False)
    try:
        yield
    finally:
        events_committed.disconnect(receiver)


@contextmanager
def heard() -> Iterator[list[tuple[str, CommittedEvent]]]:
    """Everything that the signal carries, as it comes."""
    told: list[tuple[str, CommittedEvent]] = []

    def receive(execution_id: str, events: Any, **_: Any) -> None:
        told.extend((execution_id, event) for event in events)

    with connected(receive):
        yield told


def set_run_id(execution_id: str, run_id: str) -> None:
    with changing(execution_id) as change:
        change.execution.run_id = run_id


def change_and_throw(execution_id: str) -> None:
    with changing(execution_id) as change:
        change.execution.run_id = "never"
        change.activity("a").status = ActivityStatus.RUNNING
        change.add_activity(NewActivity(activity_id="never", activity_name="never"))
        raise OnPurpose


def take_back(execution_id: str) -> None:
    with changing(execution_id) as change:
        change.activity("a").attempt = 5
        change.execution.status = ExecutionStatus.PENDING


def add_twice(execution_id: str) -> None:
    with changing(execution_id) as change:
        change.activity("a").attempt = 5
        change.activity("a").status = ActivityStatus.RUNNING
        change.add_activity(NewActivity(activity_id="a", activity_name="again"))


def test_an_exception_inside_leaves_nothing_written() -> None:
    execution_id = an_execution("a")
    with assert_patches_tell_the_truth(execution_id, nothing_expected=True):
        with pytest.raises(OnPurpose):
            change_and_throw(execution_id)
        assert read_snapshot(execution_id) is not None
    with assert_patches_tell_the_truth(execution_id):
        set_run_id(execution_id, "the next is not hindered")


def test_a_rolled_back_transaction_tells_and_leaves_nothing() -> None:
    execution_id = an_execution("a")

    def write_and_throw() -> None:
        with transaction.atomic():
            set_run_id(execution_id, "first")
            set_run_id(execution_id, "second")
            an_execution("b", execution_id="never")
            raise OnPurpose

    with (
        heard() as told,
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
        assert_patches_tell_the_truth("never", nothing_expected=True),
        pytest.raises(OnPurpose),
    ):
        write_and_throw()
    assert told == []
    with assert_patches_tell_the_truth(execution_id) as patches:
        set_run_id(execution_id, "third")
    assert patches.events[0].event_id.sequence == 1


def test_a_rolled_back_savepoint_tells_nothing_and_takes_no_sequence() -> None:
    execution_id = an_execution("a")

    def write_in_savepoint_and_throw() -> None:
        with transaction.atomic():
            set_run_id(execution_id, "never")
            raise OnPurpose

    with assert_patches_tell_the_truth(execution_id) as told, transaction.atomic():
        set_run_id(execution_id, "first")
        with pytest.raises(OnPurpose):
            write_in_savepoint_and_throw()
        set_run_id(execution_id, "second")
    assert [operation["value"] for operation in told.operations] == ["first", "second"]


@pytest.mark.parametrize(
    ("refused_change", "error"),
    [
        (take_back, TransitionRefusedError),
        (add_twice, ActivityExistsError),
        (change_and_throw, OnPurpose),
    ],
)
def test_a_refused_change_leaves_the_callers_transaction_usable(
    refused_change: Any, error: type[BaseException]
) -> None:
    execution_id = an_execution("a")
    with assert_patches_tell_the_truth(execution_id) as told, transaction.atomic():
        set_run_id(execution_id, "before")
        with pytest.raises(error):
            refused_change(execution_id)
        set_run_id(execution_id, "after")
    assert [operation["value"] for operation in told.operations] == ["before", "after"]


def test_ensuring_what_is_there_leaves_the_callers_transaction_usable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if another process had created it between the look and the creation."""
    an_execution(execution_id="there")
    monkeypatch.setattr("executions.recording.is_execution_id", _first_false())
    with assert_patches_tell_the_truth("there"), transaction.atomic():
        found, created = ensure_execution(
            execution_id="there", workflow_id="w", workflow_type="t", run_id="other"
        )
        monkeypatch.undo()
        set_run_id("there", "after")
    assert (found.run_id, created) == (None, False)


def _first_false() -> Any:
    answers = iter([False])
    return lambda _: next(answers, True)


def test_signals_come_after_the_outermost_commit_in_the_order_of_the_changes() -> None:
    one, other = an_execution("a"), an_execution("a")
    with heard() as told:
        with transaction.atomic():
            set_run_id(one, "1")
            set_run_id(other, "2")
            with transaction.atomic():
                set_run_id(one, "3")
                an_execution("a", execution_id="new")
            with changing(one) as change:
                change.execution.status = ExecutionStatus.COMPLETED
            assert told == []
        assert [(execution_id, event.event_id.sequence) for execution_id, event in told] == [
            (one, 1), (other, 1), (one, 2), ("new", 0), (one, 3), (one, 4),
        ]  # fmt: skip
    for execution_id in (one, other, "new"):
        assert_log_is_whole(execution_id)


def test_a_receiver_that_raises_reaches_neither_the_writer_nor_other_receivers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    execution_id = an_execution("a")

    def fail(**_: Any) -> None:
        raise RuntimeError("receiver's own fault")

    with (
        connected(fail),
        caplog.at_level(logging.ERROR),
        assert_patches_tell_the_truth(execution_id),
        transaction.atomic(),
    ):
        set_run_id(execution_id, "first")
        set_run_id(execution_id, "second")
    assert caplog.text.count("receiver's own fault") >= 2


def test_a_receiver_runs_in_the_writers_thread_and_reads_what_was_committed() -> None:
    execution_id = an_execution("a")
    seen: list[Any] = []

    def look(events: Any, **_: Any) -> None:
        snapshot = read_snapshot(execution_id)
        assert snapshot is not None
        seen.append((get_ident(), connection.in_atomic_block, snapshot.event_id))
        assert snapshot.event_id == events[-1].event_id

    with connected(look), assert_patches_tell_the_truth(execution_id) as told:
        set_run_id(execution_id, "r")
    assert seen == [(get_ident(), False, told.events[-1].event_id)]


def test_a_receiver_may_change_the_same_execution() -> None:
    execution_id = an_execution("a")
    refused: list[Exception] = []

    def answer(events: Any, **_: Any) -> None:
        if events[0].event_id.sequence == 1:
            try:
                set_run_id(execution_id, "answer")
            except Exception as error:
                refused.append(error)

    with connected(answer):
        set_run_id(execution_id, "question")
    assert refused == []
    assert Execution.objects.get(pk=execution_id).run_id == "answer"
    assert_log_is_whole(execution_id)


def test_writers_of_one_execution_wait_for_each_other() -> None:
    execution_id = an_execution("a", run_id="0")
    at_the_door, inside = Happening(), Happening()
    read_inside: list[str | None] = []

    def write_second() -> None:
        try:
            at_the_door.set()
            with changing(execution_id) as change:
                inside.set()
                read_inside.append(change.execution.run_id)
                change.execution.run_id = "second"
        finally:
            connection.close()

    second = Thread(target=write_second)
    with changing(execution_id) as change:
        second.start()
        assert at_the_door.wait(DEADLINE_SECONDS)
        assert not inside.wait(0.3), "the second writer came in while the first was inside"
        change.execution.run_id = "first"
    second.join(DEADLINE_SECONDS)
    assert read_inside == ["first"]
    assert Execution.objects.get(pk=execution_id).run_id == "second"
    assert_log_is_whole(execution_id)


def test_threads_creating_one_execution_create_it_once() -> None:
    outcomes: list[bool] = []

    def ensure() -> None:
        try:
            outcomes.append(
                ensure_execution(execution_id="one", workflow_id="w", workflow_type="t")[1]
            )
        finally:
            connection.close()

    with assert_patches_tell_the_truth("one") as told:
        threads = [Thread(target=ensure) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_SECONDS)
    assert sorted(outcomes) == [False] * 5 + [True]
    assert len(told.events) == 1
