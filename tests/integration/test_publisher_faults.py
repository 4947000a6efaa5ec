"""The publisher when Valkey is lost, hangs, refuses, or comes back, over a real event log."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from executions.event_log import find_event_id, read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Event
from executions.recording import changing
from executions.signals import writing_begins
from executions.statuses import ExecutionStatus
from streaming.activity_update_publisher import ActivityUpdatePublisher, publisher
from streaming.stream import EVENTS_PER_FILL, StreamWriter, stream_key
from streaming.valkey.clients import writing_client
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.truth import assert_log_is_whole, nobody_listening
from tests.waiting import wait_until

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

GENEROUS_SECONDS = 5.0


def report(execution_id: str, progress: float) -> None:
    with changing(execution_id) as change:
        change.activity("step").progress = progress


def finish(execution_id: str) -> None:
    with changing(execution_id) as change:
        change.execution.status = ExecutionStatus.COMPLETED


def assert_stream_is_the_log(valkey: ValkeyServer, execution_id: str) -> None:
    entries = valkey.client.xrange(stream_key(execution_id))
    log = assert_log_is_whole(execution_id)
    assert entries == [(str(event_id), {"message": text}) for event_id, text in log]


def publish_again(execution_id: str, events: Sequence[CommittedEvent]) -> None:
    previous = find_event_id(execution_id, events[0].event_id.sequence - 1)
    publisher().publish(execution_id, events, previous)


def filled() -> None:
    assert publisher().wait_until_filled(20)
    assert publisher().backlog_size == 0


@contextmanager
def valkey_killed(valkey: ValkeyServer) -> Iterator[None]:
    valkey.kill()
    try:
        yield
    finally:
        valkey.start()


@contextmanager
def out_of_memory(valkey: ValkeyServer) -> Iterator[None]:
    valkey.client.config_set("maxmemory-policy", "noeviction")
    valkey.client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        valkey.client.config_set("maxmemory", "0")


def test_what_is_committed_is_in_the_stream_when_the_writer_goes_on(valkey: ValkeyServer) -> None:
    execution_id = an_execution("step")
    for number in range(5):
        report(execution_id, number / 10)
        assert_stream_is_the_log(valkey, execution_id)
    finish(execution_id)
    assert_stream_is_the_log(valkey, execution_id)


def test_what_is_rolled_back_is_never_published(valkey: ValkeyServer) -> None:
    execution_id = an_execution("step")

    def fail() -> None:
        with changing(execution_id) as change:
            change.activity("step").progress = 0.5
            raise ConnectionError("of the writer's own")

    with pytest.raises(ConnectionError):
        fail()
    report(execution_id, 0.7)
    assert_stream_is_the_log(valkey, execution_id)
    assert len(valkey.stream_ids(stream_key(execution_id))) == 2


class TestLostStreams:
    @pytest.mark.parametrize("loss", ["delete", "flushall", "unlink"])
    def test_deleted_stream_is_whole_again_after_the_next_change(
        self, valkey: ValkeyServer, loss: str
    ) -> None:
        execution_id = an_execution("step")
        report(execution_id, 0.1)
        keys = [] if loss == "flushall" else [stream_key(execution_id)]
        getattr(valkey.client, loss)(*keys)
        report(execution_id, 0.2)
        assert_stream_is_the_log(valkey, execution_id)

    def test_stream_trimmed_to_empty_goes_on(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        report(execution_id, 0.1)
        valkey.client.xtrim(stream_key(execution_id), maxlen=0, approximate=False)
        report(execution_id, 0.2)
        newest = read_events(execution_id, -1, 10)[-1]
        assert valkey.client.xrange(stream_key(execution_id)) == [
            (str(newest.event_id), {"message": newest.message})
        ]

    def test_forgotten_script_is_loaded_again(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        valkey.client.script_flush()
        report(execution_id, 0.1)
        assert_stream_is_the_log(valkey, execution_id)

    def test_any_event_may_be_published_again_in_any_order(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        for number in range(4):
            report(execution_id, number / 10)
        log = read_events(execution_id, -1, 100)
        for event in (log[3], log[0], log[4], log[4], log[1]):
            publish_again(execution_id, [event])
            publish_again(execution_id, log)
        assert_stream_is_the_log(valkey, execution_id)

    @pytest.mark.parametrize("by", ["publication", "request"])
    def test_long_log_is_filled_in_several_steps(self, valkey: ValkeyServer, by: str) -> None:
        execution_id = an_execution("step")
        log = make_log_longer(execution_id, 2 * EVENTS_PER_FILL + 7)
        if by == "publication":
            publish_again(execution_id, log[-1:])
        else:
            publisher().fill(execution_id)
        filled()
        expected = [str(event.event_id) for event in log]
        assert valkey.stream_ids(stream_key(execution_id)) == expected

    @pytest.mark.parametrize("trimmed", [False, True])
    def test_pruned_log_makes_a_stream_of_what_it_keeps(
        self, valkey: ValkeyServer, trimmed: bool
    ) -> None:
        execution_id = an_execution("step")
        key = stream_key(execution_id)
        for number in range(4):
            report(execution_id, number / 10)
        Event.unrecorded_writes.filter(execution_id=execution_id, sequence__lt=3).delete()
        if trimmed:
            valkey.client.xtrim(key, maxlen=0, approximate=False)
        else:
            valkey.client.flushall()
        report(execution_id, 0.9)
        filled()
        kept = [str(event.event_id) for event in read_events(execution_id, -1, 10)]
        assert valkey.stream_ids(key) == (kept[-1:] if trimmed else kept)

    def test_event_that_is_early_never_begins_a_stream(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        report(execution_id, 0.1)
        report(execution_id, 0.2)
        log = read_events(execution_id, -1, 10)
        valkey.client.flushall()
        writer = StreamWriter(writing_client())
        appended = writer.append(execution_id, log[2:], log[1].event_id)
        assert appended.stopped_at_gap
        assert not appended.deleted
        assert not valkey.client.exists(stream_key(execution_id))


def make_log_longer(execution_id: str, count: int) -> list[CommittedEvent]:
    """Rows only, without what they would tell: the publisher does not look into them."""
    head = read_events(execution_id, -1, 1)[0].event_id
    ids = [EventId(head.milliseconds + number // 10, number) for number in range(1, count)]
    Event.unrecorded_writes.bulk_create(
        Event(execution_id=execution_id, sequence=at.sequence, milliseconds=at.milliseconds,
              message=f'{{"number":{at.sequence}}}')
        for at in ids
    )  # fmt: skip
    return read_events(execution_id, -1, count + 1)


class TestValkeyAway:
    def test_writers_commit_as_before_and_streams_are_filled_when_it_is_back(
        self, valkey: ValkeyServer
    ) -> None:
        ids = [an_execution("step") for _ in range(5)]
        with valkey_killed(valkey), capture_logs() as logs:
            began = time.monotonic()
            for execution_id in ids:
                report(execution_id, 0.5)
                finish(execution_id)
            assert time.monotonic() - began < GENEROUS_SECONDS
            wait_until(lambda: publisher().backlog_size == 5)
        filled()
        for execution_id in ids:
            assert_stream_is_the_log(valkey, execution_id)
        told = {entry["event"]: entry for entry in logs}
        assert told["publish_failed"]["execution_id"] == ids[0]
        assert EventId.parse(told["publish_failed"]["event_id"])

    def test_restarted_between_two_changes_it_is_found_again_at_once(
        self, valkey: ValkeyServer
    ) -> None:
        execution_id = an_execution("step")
        with valkey_killed(valkey):
            pass
        report(execution_id, 0.5)
        assert publisher().backlog_size == 0
        assert_stream_is_the_log(valkey, execution_id)

    def test_hanging_valkey_delays_each_of_many_writers_by_a_bounded_time(
        self, valkey: ValkeyServer
    ) -> None:
        ids = [an_execution("step") for _ in range(20)]
        events = {execution_id: made_but_not_published(execution_id) for execution_id in ids}
        befores = {execution_id: find_event_id(execution_id, 0) for execution_id in ids}
        seconds: dict[str, float] = {}

        def publish(execution_id: str) -> None:
            began = time.monotonic()
            previous = befores[execution_id]
            for event in events[execution_id]:
                publisher().publish(execution_id, [event], previous)
                previous = event.event_id
            seconds[execution_id] = time.monotonic() - began

        with valkey.stopped():
            threads = [threading.Thread(target=publish, args=(each,)) for each in ids]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert len(seconds) == 20
            assert max(seconds.values()) < GENEROUS_SECONDS
            began = time.monotonic()
            publisher().publish(ids[0], events[ids[0]], befores[ids[0]])
            assert time.monotonic() - began < 0.5, "a writer waited for what is known to be away"
        filled()
        for execution_id in ids:
            assert_stream_is_the_log(valkey, execution_id)

    def test_full_valkey_refuses_and_is_filled_when_it_has_room(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        with out_of_memory(valkey):
            report(execution_id, 0.1)
            report(execution_id, 0.2)
            assert len(valkey.stream_ids(stream_key(execution_id))) == 1
        filled()
        assert_stream_is_the_log(valkey, execution_id)

    def test_publishing_never_raises(self, valkey: ValkeyServer) -> None:
        execution_id = an_execution("step")
        log = read_events(execution_id, -1, 10)
        with valkey_killed(valkey):
            own = ActivityUpdatePublisher(StreamWriter(writing_client()))
            own.publish(execution_id, log, None)
        for given in ("", "no-such-execution", "\x00", "x" * 1_000):
            own.publish(given, log, None)
        assert own.wait_until_filled(20)
        assert own.backlog_size == 0


def made_but_not_published(execution_id: str) -> list[CommittedEvent]:
    with nobody_listening():
        report(execution_id, 0.1)
        report(execution_id, 0.2)
    return read_events(execution_id, 0, 10)


class TestStreamOfSomebodyElse:
    """Under the key of our stream is what we did not write: it is replaced at the next change."""

    def poison_by_list(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.delete(key)
        valkey.client.lpush(key, "no stream")

    def poison_by_empty_stream(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.delete(key)
        valkey.client.xgroup_create(key, "group", mkstream=True)

    def poison_by_entry_of_now(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"hello": "world"})

    def poison_by_huge_id(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"message": "{}"}, id="18446744073709551615-18446744073709551615")

    def poison_by_id_of_the_far_future(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xadd(key, {"message": "{}"}, id="99999999999999-500")

    def poison_by_next_sequence(self, valkey: ValkeyServer, key: str) -> None:
        newest = valkey.stream_ids(key)[-1]
        milliseconds, sequence = newest.split("-")
        valkey.client.xadd(key, {"message": "{}"}, id=f"{milliseconds}-{int(sequence) + 1}")

    def poison_by_deleting_the_newest(self, valkey: ValkeyServer, key: str) -> None:
        valkey.client.xdel(key, valkey.stream_ids(key)[-1])
        valkey.client.xadd(key, {"message": "{}"})

    @pytest.mark.parametrize(
        "poison",
        ["list", "empty_stream", "entry_of_now", "huge_id", "id_of_the_far_future",
         "next_sequence", "deleting_the_newest"],
    )  # fmt: skip
    @pytest.mark.parametrize("healed_by", ["change", "fill", "sweep"])
    def test_it_is_replaced(self, valkey: ValkeyServer, poison: str, healed_by: str) -> None:
        execution_id = an_execution("step")
        report(execution_id, 0.1)
        getattr(self, f"poison_by_{poison}")(valkey, stream_key(execution_id))
        if healed_by == "change":
            report(execution_id, 0.2)
        elif healed_by == "fill":
            publisher().fill(execution_id)
        else:
            writing_begins.send(sender=None)
        filled()
        assert_stream_is_the_log(valkey, execution_id)


class TestRefusedStream:
    @pytest.fixture
    def poisoned(self, valkey: ValkeyServer) -> Iterator[str]:
        """An execution whose stream Valkey lets nobody touch, until the test's end."""
        execution_id = an_execution("step")
        admin: Any = valkey.client
        admin.execute_command("ACL", "SETUSER", "default", "resetkeys", f"~{stream_key('other-*')}")
        yield execution_id
        admin.execute_command("ACL", "SETUSER", "default", "allkeys")
        filled()
        assert_stream_is_the_log(valkey, execution_id)

    def test_others_are_published_at_once(self, valkey: ValkeyServer, poisoned: str) -> None:
        other = an_execution("step", execution_id="other-1")
        for number in range(5):
            report(poisoned, number / 10)
            report(other, number / 10)
            assert_stream_is_the_log(valkey, other)

    def test_others_are_filled_while_it_is_not(self, valkey: ValkeyServer, poisoned: str) -> None:
        others = [an_execution("step", execution_id=f"other-{number}") for number in range(3)]
        with valkey.stopped():
            for execution_id in (poisoned, *others):
                report(execution_id, 0.5)
            # one of them may be under way
            wait_until(lambda: publisher().backlog_size == 4)
        wait_until(lambda: all(is_filled(valkey, each) for each in others))
        wait_until(lambda: publisher().backlog_size == 1)


def is_filled(valkey: ValkeyServer, execution_id: str) -> bool:
    expected = [str(event.event_id) for event in read_events(execution_id, -1, 100)]
    return valkey.stream_ids(stream_key(execution_id)) == expected


class TestSweeping:
    def test_what_a_dead_process_left_is_found_when_another_begins_to_write(
        self, valkey: ValkeyServer
    ) -> None:
        whole, behind, missing, finished = (an_execution("step") for _ in range(4))
        with nobody_listening():
            report(behind, 0.5)
            report(missing, 0.5)
            finish(finished)
        valkey.client.delete(stream_key(missing))
        writing_begins.send(sender=None)
        filled()
        for execution_id in (whole, behind, missing, finished):
            assert_stream_is_the_log(valkey, execution_id)

    def test_sweep_that_begins_while_valkey_is_away_is_done_when_it_is_back(
        self, valkey: ValkeyServer
    ) -> None:
        execution_id = an_execution("step")
        with valkey_killed(valkey):
            writing_begins.send(sender=None)
        filled()
        assert_stream_is_the_log(valkey, execution_id)
