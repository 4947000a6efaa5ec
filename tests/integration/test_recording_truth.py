"""The helpers of tests.truth see every kind of lie; a helper that cannot fail proves nothing."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Activity, Event, Execution
from executions.recording import changing
from executions.signals import events_committed
from executions.statuses import ActivityStatus, ExecutionStatus
from tests.samples import an_execution
from tests.truth import (
    assert_log_is_whole,
    assert_patches_tell_the_truth,
    fold,
    nobody_listening,
)

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

Lie = Callable[[], None]


@pytest.fixture(autouse=True)
def door_alone() -> Iterator[None]:
    with nobody_listening():
        yield


@pytest.fixture
def execution_id() -> str:
    return an_execution("a", "b", execution_id="e")


def begin(activity_id: str = "a") -> None:
    with changing("e") as change:
        change.activity(activity_id).status = ActivityStatus.RUNNING


def finish() -> None:
    with changing("e") as change:
        change.execution.status = ExecutionStatus.FAILED


def rewrite(sequence: int, **changed: Any) -> None:
    row = Event.objects.get(execution_id="e", sequence=sequence)
    message = json.loads(row.message) | changed
    told = {name: value for name, value in message.items() if value != ()}
    Event.unrecorded_writes.filter(pk=row.pk).update(message=json.dumps(told))


def forget(sequence: int) -> None:
    Event.unrecorded_writes.filter(execution_id="e", sequence=sequence).delete()


def write_a_row_silently() -> None:
    Activity.unrecorded_writes.filter(activity_id="b").update(progress=0.5)


def tell_another_value() -> None:
    rewrite(1, ops=[{"op": "replace", "path": "/activities/0/status", "value": "failed"}])


def tell_another_kind_of_number() -> None:
    Activity.unrecorded_writes.filter(activity_id="a").update(attempt=2)
    rewrite(
        1,
        ops=[
            {"op": "replace", "path": "/activities/0/status", "value": "running"},
            {"op": "replace", "path": "/activities/0/retry_count", "value": 1.0},
        ],
    )


def tell_nothing() -> None:
    rewrite(1, ops=[])


def tell_what_is_so_already() -> None:
    operations = [
        {"op": "replace", "path": "/activities/0/status", "value": "running"},
        {"op": "replace", "path": "/activities/1/status", "value": "pending"},
    ]
    rewrite(1, ops=operations)


def tell_it_twice() -> None:
    operation = {"op": "replace", "path": "/activities/0/status", "value": "running"}
    rewrite(1, ops=[operation | {"value": "retrying"}, operation])


def tell_of_an_unknown_place() -> None:
    rewrite(1, ops=[{"op": "replace", "path": "/activities/7/status", "value": "running"}])


def add_in_the_middle() -> None:
    rewrite(1, ops=[{"op": "add", "path": "/activities/1", "value": {}}])


def tell_of_another_time() -> None:
    rewrite(1, timestamp="2026-01-01T00:00:00.000Z")


def tell_another_id() -> None:
    rewrite(1, event_id="1-1")


def tell_of_another_execution() -> None:
    rewrite(1, execution_id="other")


def tell_more_than_the_protocol() -> None:
    rewrite(1, secret=1)


def go_back_in_time() -> None:
    Event.unrecorded_writes.filter(sequence=1).update(milliseconds=5)
    rewrite(1, event_id="5-1", timestamp="1970-01-01T00:00:00.005Z")


def skip_a_sequence() -> None:
    begin("b")
    forget(1)


def forget_the_last() -> None:
    begin("b")
    forget(2)


def move_the_head() -> None:
    Execution.unrecorded_writes.update(head_sequence=9)


def leave_a_hole_in_the_positions() -> None:
    Activity.unrecorded_writes.filter(activity_id="b").update(position=5)


def finish_without_saying() -> None:
    finish()
    forget(3)
    Execution.unrecorded_writes.update(head_sequence=2)


def finish_with_another_document() -> None:
    finish()
    rewrite(3, execution={"status": "failed"})


def reopen_what_is_closed() -> None:
    finish()
    Execution.unrecorded_writes.update(status="running")
    begin("b")


def begin_again_in_the_middle() -> None:
    rewrite(1, type="initial_snapshot", execution={}, ops=())


SEEN_IN_THE_LOG = {
    write_a_row_silently: "not what is held.*/activities/1/progress",
    tell_another_value: "not what is held.*/activities/0/status",
    tell_another_kind_of_number: "not what is held.*/activities/0/retry_count",
    tell_nothing: "has no operation",
    tell_what_is_so_already: "changes nothing",
    tell_it_twice: "writes a path twice",
    tell_of_an_unknown_place: "does not apply",
    add_in_the_middle: "not at /activities/2",
    tell_of_another_time: "the timestamp of",
    tell_another_id: "says that it is .*'1-1'",
    tell_of_another_execution: "says that it is .*'other'",
    tell_more_than_the_protocol: "secret",
    go_back_in_time: "5-1 is before",
    skip_a_sequence: "-2 comes after",
    forget_the_last: "not what is held",
    move_the_head: "the head is .*-9",
    leave_a_hole_in_the_positions: "positions are not dense",
    finish_without_saying: "log closed: False",
    finish_with_another_document: "not what is held",
    reopen_what_is_closed: "after the final snapshot",
    begin_again_in_the_middle: "not the first event",
}


@pytest.mark.parametrize(("lie", "seen"), SEEN_IN_THE_LOG.items())
def test_a_lie_in_log_or_rows_is_seen(execution_id: str, lie: Lie, seen: str) -> None:
    begin()
    assert_log_is_whole(execution_id)
    lie()
    with pytest.raises(AssertionError, match=f"(?s){seen}"):
        assert_log_is_whole(execution_id)


def send(*events: CommittedEvent) -> None:
    events_committed.send(Execution, execution_id="e", events=events)


def send_it_again() -> None:
    send(*read_events("e", 0, 9))


def send_what_is_in_no_log() -> None:
    send(CommittedEvent(EventId(0, 100), "{}"))


def send_no_event() -> None:
    send()


@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        (write_a_row_silently, "not what is held.*/activities/1/progress"),
        (tell_another_value, "the signal told"),
        (forget_the_last, "the signal told"),
        (move_the_head, "the head is .*-9"),
        (finish_without_saying, "the signal told"),
        (send_it_again, "the signal told"),
        (send_what_is_in_no_log, "out of order|the signal told"),
        (send_no_event, "the signal carried"),
    ],
)
def test_a_lie_within_the_block_is_seen(execution_id: str, lie: Lie, seen: str) -> None:
    def act_and_lie() -> None:
        with assert_patches_tell_the_truth(execution_id):
            begin()
            lie()

    with pytest.raises(AssertionError, match=f"(?s){seen}"):
        act_and_lie()


@pytest.mark.parametrize(
    ("untrue", "seen"), [("failed", "not what is held"), ("pending", "changes nothing")]
)
def test_a_lie_that_log_and_signal_share_is_seen(
    execution_id: str, monkeypatch: pytest.MonkeyPatch, untrue: str, seen: str
) -> None:
    def patch(path: str, *_: Any) -> list[Any]:
        return [{"op": "replace", "path": f"{path}/status", "value": untrue}] if path else []

    def act() -> None:
        with assert_patches_tell_the_truth(execution_id):
            begin()

    monkeypatch.setattr("executions.patches.replace_changed", patch)
    with pytest.raises(AssertionError, match=seen):
        act()


def test_an_event_without_a_signal_is_seen(
    execution_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act() -> None:
        with assert_patches_tell_the_truth(execution_id):
            begin()

    monkeypatch.setattr(events_committed, "send_robust", lambda **_: None)
    with pytest.raises(AssertionError, match=r"the signal told \[\]"):
        act()


def test_signals_out_of_order_are_seen(execution_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[dict[str, Any]] = []

    def send_backwards(**told: Any) -> None:
        waiting.insert(0, told)
        if len(waiting) == 2:
            for late in waiting:
                events_committed.send(**late)

    def act() -> None:
        with assert_patches_tell_the_truth(execution_id), transaction.atomic():
            begin("a")
            begin("b")

    monkeypatch.setattr(events_committed, "send_robust", send_backwards)
    with pytest.raises(AssertionError, match="out of order"):
        act()


def test_expectations_of_something_and_of_nothing_are_held_to(execution_id: str) -> None:
    with (
        pytest.raises(AssertionError, match="nothing was told"),
        assert_patches_tell_the_truth(execution_id),
    ):
        pass
    with (
        pytest.raises(AssertionError, match="nothing was to be told"),
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
    ):
        begin()
    with (
        pytest.raises(AssertionError, match="what was told is not what is held"),
        assert_patches_tell_the_truth(execution_id, nothing_expected=True),
    ):
        write_a_row_silently()
    with (
        pytest.raises(AssertionError, match="no event"),
        assert_patches_tell_the_truth("never"),
    ):
        pass
    with pytest.raises(AssertionError, match="has no event"):
        assert_log_is_whole("never")


def test_the_block_has_to_contain_the_whole_transaction(execution_id: str) -> None:
    with (
        transaction.atomic(),
        pytest.raises(AssertionError, match="whole"),
        assert_patches_tell_the_truth(execution_id),
    ):
        begin()


def test_folding_begins_with_an_initial_snapshot_and_ends_with_the_final(execution_id: str) -> None:
    begin()
    finish()
    texts = [event.message for event in assert_log_is_whole(execution_id)]
    assert fold(texts) == fold(map(json.loads, texts)) == json.loads(texts[-1])["execution"]
    assert fold(texts[:1])["activities"][0]["status"] == "pending"
    assert fold(texts[:2])["activities"][0]["status"] == "running"
    for wrong in (texts[1:], [], [*texts, texts[1]], [*texts, texts[-1]], [texts[0], *texts]):
        with pytest.raises(AssertionError):
            fold(wrong)
    with pytest.raises(AssertionError, match="closes an open execution"):
        fold([texts[0], texts[0].replace("initial_snapshot", "final_snapshot")])
