"""What the publisher hands to a stream, and what it decides when that fails."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
import redis
from django.db import InterfaceError, OperationalError
from structlog.testing import capture_logs

from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.signals import events_committed, writing_begins
from streaming import activity_update_publisher as module
from streaming.activity_update_publisher import ActivityUpdatePublisher
from streaming.stream import EVENTS_PER_FILL, Appended, StreamWriter
from tests.unit.streaming.fake_client import FakeClient, events, writer_of
from tests.waiting import wait_until


class TestWhatIsWritten:
    def test_event_goes_to_the_executions_stream_with_its_id_and_its_text(self) -> None:
        client = FakeClient(["1001-1", 0, 0])
        appended = writer_of(client).append("abc-123", events(0, 2), None)
        assert client.calls == [
            (
                ["execution:abc-123:events"],
                ["none", "1000-0", '{"number":0}', "1001-1", '{"number":1}'],
            )
        ]
        assert appended == Appended("1001-1", stopped_at_gap=False, deleted=False)
        assert appended.last_sequence == 1

    def test_what_comes_before_is_told(self) -> None:
        client = FakeClient(["1003-3", 0, 0])
        writer_of(client).append("a", events(3, 1), events(2, 1)[0].event_id)
        assert client.calls[0][1][:2] == ["1002-2", "1003-3"]

    @pytest.mark.parametrize(("last_id", "last"), [("", -1), ("1001-1", 1)])
    def test_gap_is_reported_with_the_streams_last_sequence(self, last_id: str, last: int) -> None:
        appended = writer_of(FakeClient([last_id, 1, 0])).append("a", events(3, 1), None)
        assert appended == Appended(last_id, stopped_at_gap=True, deleted=False)
        assert appended.last_sequence == last

    def test_stream_that_was_deleted_is_logged(self) -> None:
        with capture_logs() as logs:
            appended = writer_of(FakeClient(["", 1, 1])).append("a", events(3, 1), None)
        assert appended.deleted
        assert logs == [
            {"event": "stream_was_no_copy", "execution_id": "a", "log_level": "warning"}
        ]


class FakeWriter:
    """Streams that hold sequences; `failures` are raised by what touches their execution."""

    def __init__(self) -> None:
        self.streams: dict[str, int] = {}
        self.heads: dict[str, int] = {}
        self.failures: dict[str, Exception] = {}
        self.appends: list[str] = []
        self.fills: list[str] = []
        self.filling = threading.Event()
        self.may_fill = threading.Event()
        self.may_fill.set()

    def append(
        self, execution_id: str, given: Sequence[CommittedEvent], previous: EventId | None
    ) -> Appended:
        self.appends.append(execution_id)
        self._fail(execution_id)
        last = self.streams.get(execution_id, -1)
        for each in given:
            if each.event_id.sequence > last + 1:
                return Appended("" if last < 0 else f"{1_000 + last}-{last}", True, False)
            last = max(last, each.event_id.sequence)
            self.streams[execution_id] = last
        return Appended(f"{1_000 + last}-{last}", False, False)

    def fill(self, execution_id: str) -> None:
        head = self.heads.get(execution_id, -1)
        self.filling.set()
        assert self.may_fill.wait(10)
        self.fills.append(execution_id)
        self._fail(execution_id)
        self.streams[execution_id] = head

    def tops(self, execution_ids: Sequence[str]) -> list[EventId | None]:
        self._fail("tops")
        return [
            EventId(1_000 + self.streams[each], self.streams[each])
            if each in self.streams
            else None
            for each in execution_ids
        ]

    def _fail(self, execution_id: str) -> None:
        failure = self.failures.get(execution_id) or self.failures.get("*")
        if failure is not None:
            raise failure


class Pauses:
    """Instead of waiting: counts, and lets a test act."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.act: Callable[[int], object] = lambda count: None

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.act(len(self.seconds))


@pytest.fixture
def writer() -> FakeWriter:
    return FakeWriter()


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def publisher(writer: FakeWriter, pauses: Pauses) -> Iterator[ActivityUpdatePublisher]:
    publisher = ActivityUpdatePublisher(cast(StreamWriter, writer), pauses)
    yield publisher
    writer.failures.clear()
    assert publisher.wait_until_filled(10)


class TestPublishing:
    def test_event_is_appended_in_the_writers_own_thread(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        publisher.publish("a", events(0, 2), None)
        assert writer.streams == {"a": 1}
        assert (writer.fills, publisher.backlog_size, publisher._repair) == ([], 0, None)

    def test_gap_is_filled_from_the_log(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        writer.heads["a"] = 3
        publisher.publish("a", events(3, 1), None)
        assert writer.fills == ["a"]
        assert writer.streams == {"a": 3}

    @pytest.mark.parametrize(
        ("missing", "by_the_writer"), [(EVENTS_PER_FILL, True), (EVENTS_PER_FILL + 1, False)]
    )
    def test_writer_is_not_kept_by_a_long_gap(
        self,
        publisher: ActivityUpdatePublisher,
        writer: FakeWriter,
        missing: int,
        by_the_writer: bool,
    ) -> None:
        writer.may_fill.set() if by_the_writer else writer.may_fill.clear()
        publisher.publish("a", events(missing - 1, 1), None)
        assert (writer.fills == ["a"]) is by_the_writer
        writer.may_fill.set()
        wait_until(lambda: writer.fills == ["a"])

    @pytest.mark.parametrize(
        "failure",
        [
            redis.ConnectionError("refused"),
            redis.TimeoutError("late"),
            redis.ResponseError("WRONGTYPE"),
            redis.exceptions.OutOfMemoryError("OOM"),
            redis.exceptions.ReadOnlyError("READONLY"),
            redis.exceptions.BusyLoadingError("LOADING"),
            OSError("socket"),
            OperationalError("the database is away"),
            InterfaceError("connection already closed"),
        ],
    )
    def test_failure_never_reaches_the_writer_and_is_made_good(
        self,
        publisher: ActivityUpdatePublisher,
        writer: FakeWriter,
        pauses: Pauses,
        failure: Exception,
    ) -> None:
        writer.failures["a"] = failure
        writer.heads["a"] = 0
        pauses.act = lambda count: writer.failures.clear() if count == 3 else None
        publisher.publish("a", events(0, 1), None)
        assert publisher.wait_until_filled(10)
        assert writer.streams == {"a": 0}
        assert publisher.backlog_size == 0
        assert len(pauses.seconds) == 3

    def test_while_valkey_is_away_writers_do_not_try(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter, pauses: Pauses
    ) -> None:
        back = threading.Event()
        pauses.act = lambda count: back.wait(10)
        writer.failures["*"] = redis.TimeoutError("late")
        for name in ("a", "b", "c"):
            publisher.publish(name, events(0, 1), None)
        assert writer.appends == ["a"]
        wait_until(lambda: publisher.backlog_size == 3)
        writer.failures.clear()
        back.set()
        assert publisher.wait_until_filled(10)
        assert sorted(set(writer.fills)) == ["a", "b", "c"]
        publisher.publish("d", events(0, 1), None)
        assert writer.appends == ["a", "d"]

    def test_stream_that_refuses_does_not_keep_others_from_being_written(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter, pauses: Pauses
    ) -> None:
        back = threading.Event()
        pauses.act = lambda count: back.wait(10)
        writer.failures["poisoned"] = redis.ResponseError("WRONGTYPE")
        publisher.publish("poisoned", events(0, 1), None)
        publisher.publish("healthy", events(0, 1), None)
        assert writer.appends == ["poisoned", "healthy"]
        assert writer.streams == {"healthy": 0}
        writer.failures.clear()
        back.set()

    def test_streams_that_refuse_do_not_keep_others_from_being_filled(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter, pauses: Pauses
    ) -> None:
        back = threading.Event()
        pauses.act = lambda count: back.wait(10)
        poisoned = [f"poisoned-{number}" for number in range(5)]
        for name in poisoned:
            writer.failures[name] = redis.ResponseError("WRONGTYPE")
        writer.may_fill.clear()
        publisher.fill("first")
        assert writer.filling.wait(10)
        for name in (*poisoned, "healthy"):
            publisher.fill(name)
        writer.may_fill.set()
        wait_until(lambda: pauses.seconds != [])
        assert writer.fills == ["first", *poisoned, "healthy"]
        writer.failures.clear()
        back.set()

    def test_pauses_grow_up_to_their_limit(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter, pauses: Pauses
    ) -> None:
        writer.failures["a"] = redis.ConnectionError("refused")
        pauses.act = lambda count: writer.failures.clear() if count == 7 else None
        publisher.publish("a", events(0, 1), None)
        assert publisher.wait_until_filled(10)
        assert pauses.seconds == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]

    def test_what_comes_into_the_backlog_during_its_own_fill_is_filled_again(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        writer.heads["a"] = 0
        writer.may_fill.clear()
        publisher.fill("a")
        assert writer.filling.wait(10)
        writer.heads["a"] = 1
        publisher.fill("a")
        writer.may_fill.set()
        assert publisher.wait_until_filled(10)
        assert writer.streams == {"a": 1}

    def test_thread_ends_with_the_backlog_and_begins_again(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        for name in ("a", "b"):
            publisher.fill(name)
            assert publisher.wait_until_filled(10)
            assert publisher._repair is None
        assert writer.fills == ["a", "b"]

    def test_waiting_for_a_backlog_ends_at_its_deadline(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        writer.may_fill.clear()
        publisher.fill("a")
        assert not publisher.wait_until_filled(0.01)
        writer.may_fill.set()
        assert publisher.wait_until_filled(10)


class TestSweeping:
    @pytest.fixture(autouse=True)
    def asked_since(self, monkeypatch: pytest.MonkeyPatch, writer: FakeWriter) -> list[int]:
        asked: list[int] = []

        def heads_changed_since(milliseconds: int) -> Iterator[tuple[str, EventId]]:
            asked.append(milliseconds)
            yield from ((name, EventId(1_000 + n, n)) for name, n in writer.heads.items())

        monkeypatch.setattr(module, "heads_changed_since", heads_changed_since)
        monkeypatch.setattr(module, "STREAMS_PER_SWEEP_STEP", 2)
        return asked

    def test_streams_that_do_not_end_with_their_head_are_filled_and_no_others(
        self, publisher: ActivityUpdatePublisher, writer: FakeWriter
    ) -> None:
        writer.heads = {"missing": 0, "behind": 5, "whole": 3, "ahead": 1, "also-whole": 0}
        writer.streams = {"behind": 4, "whole": 3, "ahead": 2, "also-whole": 0}
        publisher.sweep()
        assert publisher.wait_until_filled(10)
        assert writer.fills == ["missing", "behind", "ahead"]
        assert writer.streams == writer.heads

    def test_it_looks_a_day_back(
        self,
        publisher: ActivityUpdatePublisher,
        monkeypatch: pytest.MonkeyPatch,
        asked_since: list[int],
    ) -> None:
        monkeypatch.setattr(f"{module.__name__}.time.time_ns", lambda: 100_000_000 * 1_000_000)
        publisher.sweep()
        assert publisher.wait_until_filled(10)
        assert asked_since == [100_000_000 - 24 * 60 * 60 * 1_000]

    @pytest.mark.parametrize("failure", [redis.ConnectionError("x"), OperationalError("x")])
    def test_sweep_that_fails_is_done_again(
        self,
        publisher: ActivityUpdatePublisher,
        writer: FakeWriter,
        pauses: Pauses,
        failure: Exception,
    ) -> None:
        writer.heads = {"a": 0}
        writer.failures["tops"] = failure
        pauses.act = lambda count: writer.failures.clear()
        publisher.sweep()
        assert publisher.wait_until_filled(10)
        assert writer.fills == ["a"]


class TestWiring:
    """The signals of executions reach this process' publisher."""

    @pytest.fixture
    def told(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        told: list[tuple[Any, ...]] = []

        class Recorder:
            def publish(self, *arguments: Any) -> None:
                told.append(arguments)

            def sweep(self) -> None:
                told.append(("sweep",))

        monkeypatch.setattr(module, "publisher", Recorder)
        return told

    def test_committed_events_are_published(self, told: list[tuple[Any, ...]]) -> None:
        committed = tuple(events(0, 2))
        events_committed.send(sender=None, execution_id="a", events=committed, previous=None)
        assert told == [("a", committed, None)]

    def test_beginning_to_write_sweeps(self, told: list[tuple[Any, ...]]) -> None:
        writing_begins.send(sender=None)
        assert told == [("sweep",)]
