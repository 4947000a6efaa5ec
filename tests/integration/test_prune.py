"""manage.py prune: what goes, what stays, and that nobody at work is disturbed by it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from executions import ledger, retention
from executions.attempts import AttemptNote
from executions.event_log import first_kept, read_events
from executions.models import Activity, Attempt, Event, Execution, Point, WorkflowDefinition
from executions.recording import changing
from executions.snapshots import read_snapshot
from executions.statuses import ExecutionStatus
from executions.temporal.models import ClosedRunsSeen, FollowedRun
from streaming.activity_update_publisher import publisher
from streaming.management.commands import prune as prune_command
from streaming.stream import stream_key
from tests.integration.aged import age
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment
from tests.truth import assert_log_is_whole, logged_ids
from tests.viewers import Viewers
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

CHANGES = 9


@pytest.fixture(autouse=True)
def _valkey(valkey: ValkeyServer) -> Iterator[None]:
    yield
    assert publisher().wait_until_filled(20)


def change(execution_id: str, times: int = CHANGES) -> None:
    for _ in range(times):
        with changing(execution_id) as changed:
            changed.activity("step").progress = (changed.execution.head_sequence + 1) / 1_000_000


def an_old_one(*, finished: bool, days: float = 40, **fields: Any) -> str:
    """With CHANGES changes; finished, with a closing patch and a final snapshot besides."""
    execution_id = an_execution("step", **fields)
    change(execution_id)
    if finished:
        with changing(execution_id) as changed:
            changed.execution.status = ExecutionStatus.COMPLETED
            changed.execution.completed_at = datetime.now(UTC)
    age(execution_id, days)
    return execution_id


def prune(**options: Any) -> str:
    out = StringIO()
    call_command("prune", **options, stdout=out, stderr=StringIO())
    assert publisher().wait_until_filled(20)
    return out.getvalue()


class TestAsking:
    def test_without_an_option_nothing_is_pruned(self) -> None:
        execution_id = an_old_one(finished=True)
        with pytest.raises(CommandError, match="nothing was asked for"):
            prune()
        assert len(logged_ids(execution_id)) == CHANGES + 3

    @pytest.mark.parametrize("number", ["0", "-1", "1.5", "x", "", "9999999", "\u0663"])
    @pytest.mark.parametrize("option", ["events", "executions", "streams"])
    def test_other_than_whole_numbers_are_refused(self, option: str, number: str) -> None:
        with pytest.raises(CommandError, match="whole number"):
            call_command("prune", f"--{option}-older-than={number}")

    def test_dry_run_tells_what_would_go_and_removes_nothing(self, valkey: ValkeyServer) -> None:
        ended, open_one = an_old_one(finished=True), an_old_one(finished=False)
        told = prune(executions_older_than=30, events_older_than=30, streams_older_than=1,
                     dry_run=True)  # fmt: skip
        events = CHANGES + 3 + (CHANGES + 2) + CHANGES
        assert told.startswith(f"would remove 1 executions, {events} events, 1 streams;")
        assert len(logged_ids(ended)) == CHANGES + 3
        assert len(logged_ids(open_one)) == CHANGES + 1
        assert len(valkey.stream_ids(stream_key(ended))) == CHANGES + 3


class TestEvents:
    def test_the_newest_of_each_execution_stays(self) -> None:
        ended, open_one = an_old_one(finished=True), an_old_one(finished=False)
        young = an_execution("step")
        change(young)
        last = {each: logged_ids(each)[-1] for each in (ended, open_one)}
        told = prune(events_older_than=30)
        assert told.startswith(f"removed 0 executions, {2 * CHANGES + 2} events, 0 streams;")
        for execution_id, event_id in last.items():
            assert logged_ids(execution_id) == [event_id]
            assert read_snapshot(execution_id) is not None
        assert_log_is_whole(young)
        assert prune(events_older_than=30).startswith("removed 0 executions, 0 events")

    def test_log_and_stream_are_dense_from_the_first_that_is_young_enough(
        self, valkey: ValkeyServer
    ) -> None:
        execution_id = an_execution("step")
        change(execution_id)
        age(execution_id, 40, up_to=5)
        prune(events_older_than=30)
        change(execution_id, 2)
        assert [int(each.split("-")[1]) for each in logged_ids(execution_id)] == list(range(6, 12))
        assert valkey.stream_ids(stream_key(execution_id)) == logged_ids(execution_id)

    def test_stream_lost_afterwards_is_made_of_what_is_kept(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        change(execution_id)
        age(execution_id, 40, up_to=5)
        prune(events_older_than=30)
        valkey.client.flushall()
        change(execution_id, 1)
        assert publisher().wait_until_filled(20)
        assert valkey.stream_ids(stream_key(execution_id)) == logged_ids(execution_id)

    def test_viewers_are_told_what_is_kept_no_longer(
        self, open_web: WebServer, viewers: Viewers
    ) -> None:
        execution_id = an_execution("step")
        change(execution_id)
        ids = logged_ids(execution_id)
        age(execution_id, 40, up_to=5)
        staying = viewers.open(open_web.stream(execution_id))
        staying.wait_for_messages(1)
        prune(events_older_than=30)
        trimmed = [viewers.open(open_web.stream(execution_id, each)) for each in ("0", ids[5])]
        kept = viewers.open(open_web.stream(execution_id, ids[6]))
        for viewer in trimmed:
            assert viewer.wait_for_messages(1)[0]["resync"] == {"reason": "trimmed"}
        with changing(execution_id) as changed:
            changed.execution.status = ExecutionStatus.COMPLETED
        for viewer in (staying, *trimmed, kept):
            assert viewer.wait_for_close() == 1000
        assert kept.event_ids == logged_ids(execution_id)[1:]
        assert not any("resync" in message for message in staying.messages)


class TestExecutions:
    def test_ended_ones_go_with_all_that_is_kept_of_them(self, valkey: ValkeyServer) -> None:
        old = an_old_one(finished=True, workflow_definition={"a": 1})
        ledger.note_attempts(old, [AttemptNote(activity_id="step", number=1)])
        FollowedRun.objects.create(run_id=old, workflow_id="w", namespace="default")
        others = [an_old_one(finished=False), an_old_one(finished=True, days=20)]
        told = prune(executions_older_than=30)
        assert told.startswith(f"removed 1 executions, {CHANGES + 3} events, 0 streams;")
        for model in (Execution, Activity, Attempt, Event, Point, WorkflowDefinition):
            key = "pk" if model in (Execution, WorkflowDefinition) else "execution_id"
            assert not model.objects.filter(**{key: old}).exists(), model
        assert not FollowedRun.objects.exists()
        assert not valkey.client.exists(stream_key(old))
        assert {row.pk for row in Execution.objects.all()} == set(others)

    def test_their_runs_are_looked_for_no_more(self) -> None:
        an_old_one(finished=True)
        before = datetime.now(UTC) - timedelta(days=30)
        prune(executions_older_than=30)
        (seen,) = ClosedRunsSeen.objects.all()
        assert abs(seen.closed_before - before) < timedelta(minutes=1)
        an_old_one(finished=True, days=90)
        prune(executions_older_than=60)
        assert ClosedRunsSeen.objects.get().closed_before == seen.closed_before

    def test_viewers_that_are_left_are_closed_as_of_no_execution(
        self, open_web: WebServer, viewers: Viewers
    ) -> None:
        execution_id = an_execution("step")
        change(execution_id)
        viewer = viewers.open(open_web.stream(execution_id))
        viewer.wait_for_messages(1)
        # without an event that would have closed the viewer
        Execution.unrecorded_writes.filter(pk=execution_id).update(
            status="completed", completed_at=datetime.now(UTC) - timedelta(days=40)
        )
        prune(executions_older_than=30)
        assert viewer.wait_for_close() == 4404

    def test_execution_of_the_same_id_may_begin_again(self, valkey: ValkeyServer) -> None:
        an_old_one(finished=True, execution_id="again")
        prune(executions_older_than=30)
        an_execution("step", execution_id="again")
        change("again")
        assert_log_is_whole("again")
        assert valkey.stream_ids(stream_key("again")) == logged_ids("again")


class TestStreams:
    def test_streams_of_ended_and_unknown_executions_go_and_others_are_trimmed(
        self, valkey: ValkeyServer
    ) -> None:
        ended = an_old_one(finished=True)
        open_one, young = an_execution("step"), an_execution("step")
        change(young)
        key = stream_key(open_one)
        valkey.client.delete(key)
        age(open_one, 40)
        change(open_one)
        valkey.client.xadd(stream_key("nobody"), {"message": "{}"}, id="1-0")
        told = prune(streams_older_than=24)
        assert told.startswith("removed 0 executions, 0 events, 2 streams; trimmed 1 streams by 1")
        assert valkey.stream_ids(key) == logged_ids(open_one)[1:]
        assert valkey.stream_ids(stream_key(young)) == logged_ids(young)
        assert sorted(valkey.client.keys("execution:*")) == sorted([key, stream_key(young)])
        assert len(logged_ids(ended)) == CHANGES + 3

    def test_the_newest_entry_stays(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        key = stream_key(execution_id)
        valkey.client.delete(key)
        change(execution_id, 3)
        age(execution_id, 40)
        valkey.client.delete(key)
        publisher().fill(execution_id)
        assert publisher().wait_until_filled(20)
        prune(streams_older_than=24)
        assert valkey.stream_ids(key) == logged_ids(execution_id)[-1:]
        change(execution_id, 2)
        assert valkey.stream_ids(key) == logged_ids(execution_id)[-3:]

    def test_without_valkey_it_says_that_streams_are_left(self, valkey: ValkeyServer) -> None:
        valkey.kill()
        with pytest.raises(CommandError, match="Valkey cannot be reached"):
            prune(streams_older_than=24)


class TestBesideOthers:
    def test_writers_hardly_wait_while_much_is_removed(self) -> None:
        for _ in range(4):
            with_many_events(1_500)
        execution_id = an_execution("step")
        longest = 0.0
        pruning = threading.Thread(target=prune_in_thread)
        pruning.start()
        while pruning.is_alive():
            began = time.monotonic()
            change(execution_id, 1)
            longest = max(longest, time.monotonic() - began)
        pruning.join()
        assert Event.objects.exclude(execution_id=execution_id).count() == 4
        assert_log_is_whole(execution_id)
        assert longest < 1.0, f"a writer waited {longest:.2f} s"

    def test_killed_anywhere_it_leaves_dense_logs_and_is_gone_on_with(self) -> None:
        ids = [with_many_events(3_000) for _ in range(4)]
        for _ in range(2):
            events_before = Event.objects.count()
            process = subprocess.Popen(
                [sys.executable, "manage.py", "prune", "--events-older-than=30"],
                env=session_environment(), stdout=subprocess.DEVNULL,
            )  # fmt: skip
            wait_until(lambda before=events_before: Event.objects.count() < before)  # type: ignore[misc]
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            for execution_id in ids:
                kept = [each.event_id.sequence for each in read_events(execution_id, -1, 9_999)]
                assert kept == list(range(kept[0], 3_000))
        prune(events_older_than=30)
        assert [first_kept(each).sequence for each in ids] == [2_999] * 4  # type: ignore[union-attr]

    def test_several_at_once_do_no_harm(self) -> None:
        for _ in range(6):
            an_old_one(finished=True)
        kept = [with_many_events(1_500) for _ in range(2)]
        threads = [threading.Thread(target=prune_in_thread) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        prune(executions_older_than=30, events_older_than=30)
        assert {row.pk for row in Execution.objects.all()} == set(kept)
        assert Event.objects.count() == 2


def with_many_events(count: int) -> str:
    """An open execution with so many old events, without what they would tell."""
    execution_id = an_execution("step")
    Event.unrecorded_writes.bulk_create(
        Event(execution_id=execution_id, sequence=number, milliseconds=1, message="x" * 300)
        for number in range(1, count)
    )
    Event.unrecorded_writes.filter(execution_id=execution_id, sequence=0).update(milliseconds=1)
    Execution.unrecorded_writes.filter(pk=execution_id).update(
        head_sequence=count - 1, head_milliseconds=1
    )
    return execution_id


def prune_in_thread() -> None:
    try:
        call_command("prune", executions_older_than=30, events_older_than=30,
                     stdout=StringIO(), stderr=StringIO())  # fmt: skip
    finally:
        connection.close()


def test_interrupted_it_says_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    execution_id = an_old_one(finished=False)

    def interrupted(before: datetime) -> Iterator[retention.Removed]:
        yield retention.Removed(execution_id, 7, is_whole=False)
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "remove_events", interrupted)
    monkeypatch.setattr(prune_command, "REPORT_SECONDS", 0)
    out, errors = StringIO(), StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("prune", events_older_than=30, stdout=out, stderr=errors)
    assert end.value.code == 130
    assert out.getvalue().startswith("interrupted; removed 0 executions, 7 events")
    assert errors.getvalue().startswith("removed 0 executions, 7 events")
