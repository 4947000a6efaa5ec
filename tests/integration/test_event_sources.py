"""One contract for every source of events, and what only a stream can hold or do."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest
import redis

from executions.event_log import read_events
from executions.events import CommittedEvent
from executions.identifiers import EventId
from executions.models import Event
from executions.recording import changing
from streaming import sources
from streaming.sources import EventLogSource, EventSource, StreamSource, UnknownCursorError
from streaming.stream import stream_key
from streaming.valkey.clients import READING_SECONDS, UNREACHABLE, reading_client
from tests.integration.watching import in_thread
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

EVENTS = 9


def execution_with_events(count: int = EVENTS) -> str:
    execution_id = an_execution("step")
    for number in range(1, count):
        with changing(execution_id) as change:
            change.activity("step").progress = number / count
    return execution_id


def log_of(execution_id: str) -> list[CommittedEvent]:
    return read_events(execution_id, -1, 10_000)


@pytest.fixture
def execution_id(valkey: ValkeyServer) -> str:
    """An execution whose events are in the event log and in the stream."""
    return execution_with_events()


@pytest.fixture
def log(execution_id: str, valkey: ValkeyServer) -> list[CommittedEvent]:
    log = log_of(execution_id)
    assert valkey.stream_ids(stream_key(execution_id)) == [str(each.event_id) for each in log]
    return log


@pytest.fixture(params=["stream", "event log"])
async def source(request: pytest.FixtureRequest) -> AsyncIterator[EventSource]:
    made: EventSource = (
        StreamSource(reading_client()) if request.param == "stream" else EventLogSource()
    )
    yield made
    await made.close()


@pytest.fixture
async def stream() -> AsyncIterator[StreamSource]:
    made = StreamSource(reading_client())
    yield made
    await made.close()


def lose(execution_id: str, valkey: ValkeyServer, lost: list[CommittedEvent]) -> None:
    """Both sources lose these events."""
    ids = [str(each.event_id) for each in lost]
    valkey.client.xdel(stream_key(execution_id), *ids)
    sequences = [each.event_id.sequence for each in lost]
    Event.unrecorded_writes.filter(execution_id=execution_id, sequence__in=sequences).delete()


async def nothing_after(source: EventSource, execution_id: str, cursor: EventId) -> bool:
    """The log knows for sure that there is no such event, and says so."""
    if isinstance(source, StreamSource):
        return await source.read_after(execution_id, cursor) == []
    with pytest.raises(UnknownCursorError):
        await source.read_after(execution_id, cursor)
    return True


class TestContract:
    async def test_without_cursor_it_begins_with_the_first_event(
        self, source: EventSource, execution_id: str, log: list[CommittedEvent]
    ) -> None:
        assert await source.read_after(execution_id, None) == log

    async def test_with_a_cursor_strictly_what_follows_is_read(
        self, source: EventSource, execution_id: str, log: list[CommittedEvent]
    ) -> None:
        for position, event in enumerate(log):
            assert await source.read_after(execution_id, event.event_id) == log[position + 1 :]

    async def test_at_most_so_many_are_read_and_the_next_reading_goes_on(
        self,
        source: EventSource,
        execution_id: str,
        log: list[CommittedEvent],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sources, "EVENTS_PER_READ", 4)
        read: list[CommittedEvent] = []
        for expected in (4, 4, 1, 0):
            cursor = read[-1].event_id if read else None
            step = await source.read_after(execution_id, cursor)
            assert len(step) == expected
            read += step
        assert read == log

    async def test_cursor_that_is_none_of_the_executions_has_no_successor(
        self, source: EventSource, execution_id: str, log: list[CommittedEvent]
    ) -> None:
        newest = log[-1].event_id
        foreign = [
            EventId(newest.milliseconds + further, newest.sequence + further)
            for further in (1, 500, 10**15)
        ]
        foreign += [
            EventId(event.event_id.milliseconds + 1, event.event_id.sequence) for event in log
        ]
        foreign += [EventId(0, event.event_id.sequence) for event in log]
        for cursor in foreign:
            assert await nothing_after(source, execution_id, cursor)

    @pytest.mark.parametrize("unknown", ["no-such-execution", "", "a b", "x" * 100, "\x00", "é"])
    async def test_unknown_execution_has_no_events(
        self, source: EventSource, execution_id: str, unknown: str
    ) -> None:
        assert await source.read_after(unknown, None) == []
        assert await nothing_after(source, unknown, EventId(1, 1))

    async def test_other_executions_events_are_not_read(
        self, source: EventSource, execution_id: str, log: list[CommittedEvent]
    ) -> None:
        other = await in_thread(execution_with_events, 3)
        assert await source.read_after(execution_id, None) == log
        assert len(await source.read_after(other, None)) == 3

    @pytest.mark.parametrize("lost", [1, 4, EVENTS])
    async def test_across_a_trimmed_beginning_nothing_is_read(
        self,
        source: EventSource,
        execution_id: str,
        log: list[CommittedEvent],
        valkey: ValkeyServer,
        lost: int,
    ) -> None:
        await in_thread(lose, execution_id, valkey, log[:lost])
        assert await source.read_after(execution_id, None) == []
        for position, event in enumerate(log):
            # a cursor whose own event is lost may be of anything
            continued = log[position + 1 :] if position >= lost else []
            if lost == EVENTS:
                assert await nothing_after(source, execution_id, event.event_id)
                continue
            assert await source.read_after(execution_id, event.event_id) == continued

    async def test_reading_stops_at_a_gap_in_the_middle(
        self,
        source: EventSource,
        execution_id: str,
        log: list[CommittedEvent],
        valkey: ValkeyServer,
    ) -> None:
        await in_thread(lose, execution_id, valkey, log[5:6])
        assert await source.read_after(execution_id, None) == log[:5]
        assert await source.read_after(execution_id, log[2].event_id) == log[3:5]
        assert await source.read_after(execution_id, log[4].event_id) == []
        assert await source.read_after(execution_id, log[5].event_id) == []
        assert await source.read_after(execution_id, log[6].event_id) == log[7:]


class TestWhatOthersWroteIntoAStream:
    @pytest.mark.parametrize(
        ("entry_id", "fields"),
        [
            ("*", {"hello": "world"}),
            ("*", {"message": "{}"}),
            ("99999999999999-500", {"message": "{}"}),
            ("99999999999999-0", {"message": "{}"}),
            (f"99999999999999-{EVENTS}", {"text": "{}"}),
            (f"99999999999999-{EVENTS}", {b"\xff": b"\xff"}),
            ("18446744073709551615-1", {"message": "{}"}),
        ],
    )
    async def test_it_is_not_read(
        self,
        stream: StreamSource,
        execution_id: str,
        log: list[CommittedEvent],
        valkey: ValkeyServer,
        entry_id: str,
        fields: dict[str | bytes, str | bytes],
    ) -> None:
        valkey.client.xadd(stream_key(execution_id), fields, id=entry_id)  # type: ignore[arg-type]
        assert await stream.read_after(execution_id, None) == log
        assert await stream.read_after(execution_id, log[-1].event_id) == []

    @pytest.mark.parametrize(
        ("entry_id", "told"),
        [
            (f"99999999999999-{EVENTS}", f"99999999999998-{EVENTS}"),
            # no event id, though its entry's
            (f"99999999999999999-{EVENTS}", f"99999999999999999-{EVENTS}"),
        ],
    )
    async def test_message_of_another_event_than_its_entrys_is_not_read(
        self,
        stream: StreamSource,
        execution_id: str,
        log: list[CommittedEvent],
        valkey: ValkeyServer,
        entry_id: str,
        told: str,
    ) -> None:
        text = f'{{"type":"activity_patch","execution_id":"{execution_id}","event_id":"{told}"}}'
        valkey.client.xadd(stream_key(execution_id), {"message": text}, id=entry_id)
        assert await stream.read_after(execution_id, None) == log

    async def test_key_that_is_no_stream_cannot_be_read(
        self, stream: StreamSource, execution_id: str, valkey: ValkeyServer
    ) -> None:
        valkey.client.set(stream_key(execution_id), "no stream")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE") as refusal:
            await stream.read_after(execution_id, None)
        assert isinstance(refusal.value, UNREACHABLE)


@pytest.fixture
def several(valkey: ValkeyServer) -> dict[str, list[CommittedEvent]]:
    ids = [execution_with_events(4) for _ in range(4)]
    return {execution_id: log_of(execution_id) for execution_id in ids}


async def test_reading_that_is_cancelled_leaves_no_answer_for_the_next_reader(
    stream: StreamSource, several: dict[str, list[CommittedEvent]]
) -> None:
    """Connections are shared: a late answer would show one execution to another's viewer."""
    chance = random.Random(7)
    for _ in range(60):
        leaving = [
            asyncio.create_task(stream.read_after(execution_id, None)) for execution_id in several
        ]
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        for execution_id, log in several.items():
            assert await stream.read_after(execution_id, None) == log


async def test_valkey_that_is_away_raises_what_readers_expect(
    stream: StreamSource, execution_id: str, log: list[CommittedEvent], valkey: ValkeyServer
) -> None:
    assert await stream.read_after(execution_id, None) == log
    valkey.kill()
    try:
        with pytest.raises(UNREACHABLE):
            await stream.read_after(execution_id, None)
    finally:
        valkey.start()
    assert await stream.read_after(execution_id, None) == []


async def test_valkey_that_hangs_raises_within_the_readers_time_limits(
    stream: StreamSource, execution_id: str, log: list[CommittedEvent], valkey: ValkeyServer
) -> None:
    assert await stream.read_after(execution_id, None) == log
    with valkey.stopped():
        reading = asyncio.create_task(stream.read_after(execution_id, None))
        await asyncio.wait([reading], timeout=3 * READING_SECONDS)
        assert reading.done()
        assert isinstance(reading.exception(), UNREACHABLE)
    async with asyncio.timeout(10):
        assert await stream.read_after(execution_id, None) == log
