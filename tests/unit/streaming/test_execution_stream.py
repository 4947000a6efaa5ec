"""One connection's stream: what it sends, whatever it reads and hears."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming.close_codes import CloseCode
from streaming.snapshot import SnapshotMessage
from streaming.start import EventsAfter, SnapshotOfNow
from streaming.subscription import Interruption
from tests.unit.streaming.fake_view import FakeView, Heard, snapshot_at, streamed
from tests.unit.streaming.world import (
    Client,
    document,
    event_id,
    final_event,
    first_event,
    patch_event,
)
from tests.unit.virtual_time import run

SILENCE, OVERFLOW, GAP = Interruption.SILENCE, Interruption.OVERFLOW, Interruption.GAP
FROM_THE_BEGINNING = EventsAfter(None)


def log_of(last: int, *, finished: bool = False) -> list[CommittedEvent]:
    """Events 0 to `last`; finished, the last two are the closing patch and the final snapshot."""
    if not finished:
        return [first_event(), *(patch_event(number) for number in range(1, last + 1))]
    return [*log_of(last - 2), patch_event(last - 1, "completed"), final_event(last)]


def resumed(cursor: int) -> Client:
    client = Client()
    client.cursor, client.document = event_id(cursor), document(cursor)
    return client


class TestBeginning:
    def test_finished_execution_from_the_beginning_is_its_log_and_the_end(self) -> None:
        view = FakeView(log_of(9, finished=True))
        client, code = run(streamed(view, FROM_THE_BEGINNING, event_id(9)))
        assert code is CloseCode.DONE
        assert client.applied == list(range(1, 10))
        assert view.live_from == []

    def test_finished_execution_without_replay_is_its_snapshot_and_the_final_one(self) -> None:
        view = FakeView(log_of(9, finished=True), snapshots=[snapshot_at(8, final=True)])
        client, code = run(streamed(view, SnapshotOfNow(), event_id(9)))
        assert code is CloseCode.DONE
        assert client.applied == [9]
        assert client.resyncs == []

    def test_cursor_gets_strictly_what_follows(self) -> None:
        view = FakeView(log_of(6))
        client, _ = run(streamed(view, EventsAfter(event_id(2)), event_id(6), resumed(2)))
        assert client.applied == [3, 4, 5, 6]
        assert view.live_from == [event_id(6)]

    def test_cursor_at_the_head_goes_live_without_reading(self) -> None:
        view = FakeView(log_of(6))
        client, _ = run(streamed(view, EventsAfter(event_id(6)), event_id(6), resumed(6)))
        assert client.applied == []
        assert (view.read_cursors, view.live_from) == ([], [event_id(6)])

    @pytest.mark.parametrize("reason", ["trimmed", "unknown"])
    def test_cursor_that_cannot_be_honoured_gets_a_resync_that_says_why(self, reason: str) -> None:
        view = FakeView(log_of(6), snapshots=[snapshot_at(6)])
        start = SnapshotOfNow(reason)  # type: ignore[arg-type]
        client, _ = run(streamed(view, start, event_id(6)))
        assert client.resyncs == [reason]
        assert view.live_from == [event_id(6)]

    def test_execution_that_is_gone_meanwhile_is_not_found(self) -> None:
        view = FakeView(snapshots=[None])
        _, code = run(streamed(view, SnapshotOfNow(), event_id(6)))
        assert code is CloseCode.NOT_FOUND

    def test_snapshot_older_than_the_head_is_followed_by_what_came_since(self) -> None:
        view = FakeView(log_of(6), snapshots=[snapshot_at(4)])
        client, _ = run(streamed(view, SnapshotOfNow(), event_id(6)))
        assert client.applied == [5, 6]
        assert view.live_from == [event_id(6)]

    def test_what_became_known_during_the_reading_is_read_before_going_live(self) -> None:
        view = FakeView(log_of(9), newest=event_id(8))
        client, _ = run(streamed(view, EventsAfter(event_id(2)), event_id(3), resumed(2)))
        assert client.applied[-1] >= 8
        assert view.live_from == [event_id(client.applied[-1])]


class TestFollowing:
    def test_duplicates_are_sent_once(self) -> None:
        log = log_of(5)
        view = FakeView(log, heard=[[log[4]], [log[4], log[3], log[5], log[5]]])
        client, _ = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert client.applied == [4, 5]

    @pytest.mark.parametrize("heard", [[log_of(8)[6]], [log_of(8)[4], log_of(8)[6]]])
    def test_gap_in_what_is_heard_is_read(self, heard: list[CommittedEvent]) -> None:
        view = FakeView(log_of(6), heard=[heard])
        client, _ = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert client.applied == [4, 5, 6]
        assert client.resyncs == []

    def test_final_snapshot_ends_the_stream_and_nothing_follows_it(self) -> None:
        log = log_of(6, finished=True)
        view = FakeView(log, heard=[[*log[4:], log[5]], [log[6]]])
        client, code = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert code is CloseCode.DONE
        assert client.finished
        assert view.heard != []


class TestSendingAtOnce:
    """What comes while the stream's task waits for events."""

    def sent_at_once(self, event: CommittedEvent, has_room_each: int = 1) -> tuple[bool, Client]:
        client = resumed(3)
        client.has_room_each = has_room_each
        told: list[bool] = []

        class Waiting(FakeView):
            async def next_events(
                self, silence_seconds: float
            ) -> list[CommittedEvent] | Interruption:
                if not told:
                    told.append(self.send_now(event))
                return await super().next_events(silence_seconds)

        view = Waiting(log_of(3), heard=[[patch_event(4)]])
        run(streamed(view, EventsAfter(event_id(3)), event_id(3), client))
        return told[0], client

    def test_next_event_is_sent_and_is_not_sent_again(self) -> None:
        sent, client = self.sent_at_once(patch_event(4))
        assert sent
        assert client.applied == [4]

    def test_without_room_it_is_left_to_the_task(self) -> None:
        sent, client = self.sent_at_once(patch_event(4), has_room_each=0)
        assert not sent
        assert client.applied == [4]

    @pytest.mark.parametrize(
        "event",
        [patch_event(3), patch_event(5), final_event(4), CommittedEvent(EventId(1, 4), "{}")],
    )
    def test_what_is_not_simply_the_next_is_left_to_the_task(self, event: CommittedEvent) -> None:
        sent, client = self.sent_at_once(event)
        assert not sent
        assert client.applied == [4]

    def test_snapshot_of_a_slow_reader_is_to_be_taken_first(self) -> None:
        told: list[bool] = []

        class Overflowing(FakeView):
            async def next_events(
                self, silence_seconds: float
            ) -> list[CommittedEvent] | Interruption:
                heard = await super().next_events(silence_seconds)
                if heard is not OVERFLOW:
                    told.append(self.send_now(patch_event(9)))
                return heard

        view = Overflowing(heard=[OVERFLOW, [patch_event(9)]], snapshots=[snapshot_at(8)])
        client, _ = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert told == [False]
        assert client.applied == [9]

    def test_silence_is_counted_from_what_was_sent_at_once(self) -> None:
        class Waiting(FakeView):
            async def next_events(
                self, silence_seconds: float
            ) -> list[CommittedEvent] | Interruption:
                if len(self.heard) == 2:
                    asyncio.get_running_loop().call_later(20, self.send_now, patch_event(4))
                return await super().next_events(silence_seconds)

        view = Waiting(heard=[SILENCE, SILENCE])
        client, _ = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert client.applied == [4]
        assert [each["event_id"] for each in client.heartbeats] == [str(event_id(4))]


class TestGaps:
    def test_events_that_are_not_kept_are_made_up_for_by_a_resync(self) -> None:
        view = FakeView(log_of(9)[8:], heard=[GAP], snapshots=[snapshot_at(8)])
        view.newest = event_id(3)
        client = resumed(3)

        async def scenario() -> None:
            view.newest = event_id(9)
            await streamed(view, EventsAfter(event_id(3)), event_id(3), client)

        run(scenario())
        assert client.resyncs == ["trimmed"]
        assert client.applied == [9]

    def test_gap_whose_events_are_kept_is_read(self) -> None:
        log = log_of(7)
        view = FakeView(log, heard=[GAP])
        view.events_per_read = 100
        client = resumed(3)

        async def scenario() -> None:
            asyncio.get_running_loop().call_soon(setattr, view, "newest", event_id(7))
            await streamed(view, EventsAfter(event_id(3)), event_id(3), client)

        run(scenario())
        assert client.applied == [4, 5, 6, 7]
        assert client.resyncs == []

    def test_resync_never_goes_back_behind_what_was_sent(self) -> None:
        """The first snapshot was being read for others before events 4 to 6 were committed."""
        view = FakeView(heard=[OVERFLOW], snapshots=[snapshot_at(4), snapshot_at(9)])
        client, _ = run(streamed(view, EventsAfter(event_id(6)), event_id(6), resumed(6)))
        assert client.resyncs == ["slow"]
        assert client.cursor == event_id(9)

    def test_database_that_went_back_ends_the_connection(self) -> None:
        view = FakeView(heard=[OVERFLOW], snapshots=[snapshot_at(4), snapshot_at(4)])
        client, code = run(streamed(view, EventsAfter(event_id(6)), event_id(6), resumed(6)))
        assert code is CloseCode.INTERNAL_ERROR
        assert client.resyncs == []

    @pytest.mark.parametrize("lost", [snapshot_at(6), snapshot_at(6, final=True)])
    def test_what_is_nowhere_is_not_looked_for_for_ever(self, lost: SnapshotMessage) -> None:
        view = FakeView(snapshots=[lost] * 10, newest=event_id(7))
        client, code = run(streamed(view, EventsAfter(event_id(6)), event_id(6), resumed(6)))
        assert code is CloseCode.INTERNAL_ERROR
        assert len(client.resyncs) <= 1


class TestSlowReaders:
    def test_first_overflow_gets_one_fresh_snapshot(self) -> None:
        view = FakeView(log_of(9), heard=[OVERFLOW], snapshots=[snapshot_at(9)])
        client, code = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert client.resyncs == ["slow"]
        assert code is None
        assert view.live_from == [event_id(3), event_id(9)]

    def test_overflow_soon_after_is_closed_as_too_slow(self) -> None:
        view = FakeView(log_of(9), heard=[OVERFLOW, OVERFLOW], snapshots=[snapshot_at(9)])
        client, code = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert client.resyncs == ["slow"]
        assert code is CloseCode.TOO_SLOW

    @pytest.mark.parametrize(
        ("seconds", "code"), [(29.9, CloseCode.TOO_SLOW), (30.1, None)]
    )  # fmt: skip
    def test_later_overflow_gets_another_snapshot(
        self, seconds: float, code: CloseCode | None
    ) -> None:
        class Pausing(FakeView):
            async def next_events(
                self, silence_seconds: float
            ) -> list[CommittedEvent] | Interruption:
                if len(self.heard) == 1:
                    await asyncio.sleep(seconds)
                return await super().next_events(silence_seconds)

        view = Pausing(heard=[OVERFLOW, OVERFLOW], snapshots=[snapshot_at(8), snapshot_at(9)])
        _, ended = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        assert ended is code

    def test_time_that_the_resync_itself_takes_to_send_does_not_count(self) -> None:
        client = resumed(3)
        client.send_seconds = 1_000
        view = FakeView(heard=[OVERFLOW, OVERFLOW], snapshots=[snapshot_at(8)])
        _, ended = run(streamed(view, EventsAfter(event_id(3)), event_id(3), client))
        assert ended is CloseCode.TOO_SLOW

    def test_snapshot_is_taken_when_what_follows_it_is_sent_and_only_then_can_it_be_enough(
        self,
    ) -> None:
        """The event after the snapshot waits until the client has taken that: 1,000 s."""
        client = resumed(3)
        client.send_seconds = 1_000
        view = FakeView(
            heard=[OVERFLOW, [patch_event(9)], OVERFLOW], snapshots=[snapshot_at(8), snapshot_at(9)]
        )
        _, ended = run(streamed(view, EventsAfter(event_id(3)), event_id(3), client))
        assert ended is CloseCode.TOO_SLOW
        assert client.resyncs == ["slow"]


class TestHeartbeats:
    def heartbeats(self, view: FakeView) -> list[dict[str, object]]:
        client, _ = run(streamed(view, EventsAfter(event_id(3)), event_id(3), resumed(3)))
        return client.heartbeats

    def test_each_silence_gets_one_that_names_the_cursor(self) -> None:
        sent = self.heartbeats(FakeView(heard=[SILENCE, SILENCE]))
        assert [each["event_id"] for each in sent] == [str(event_id(3))] * 2
        assert all(str(each["timestamp"]).endswith("Z") for each in sent)

    def test_after_an_event_it_names_that_one(self) -> None:
        sent = self.heartbeats(FakeView(heard=[[patch_event(4)], SILENCE]))
        assert [each["event_id"] for each in sent] == [str(event_id(4))]

    def test_while_a_newer_event_is_known_it_names_none(self) -> None:
        class Behind(FakeView):
            async def next_events(
                self, silence_seconds: float
            ) -> list[CommittedEvent] | Interruption:
                self.newest = event_id(4)
                return await super().next_events(silence_seconds)

        assert ["event_id" in each for each in self.heartbeats(Behind(heard=[SILENCE]))] == [False]

    def test_slow_reads_get_them_too(self) -> None:
        class Slow(FakeView):
            async def snapshot(self) -> SnapshotMessage | None:
                await asyncio.sleep(100)
                return await super().snapshot()

            async def read_after(self, cursor: EventId | None) -> list[CommittedEvent]:
                await asyncio.sleep(70)
                return await super().read_after(cursor)

        view = Slow(log_of(6), snapshots=[snapshot_at(5)])
        client, _ = run(streamed(view, SnapshotOfNow(), event_id(6)))
        assert ["event_id" in each for each in client.heartbeats] == [False] * 5
        assert client.applied == [6]

    def test_while_nothing_can_be_heard_it_names_none(self) -> None:
        view = FakeView(heard=[SILENCE])
        view.hears = False
        assert ["event_id" in each for each in self.heartbeats(view)] == [False]


@st.composite
def what_is_heard(draw: st.DrawFn, log: Sequence[CommittedEvent]) -> list[Heard]:
    some_events = st.lists(st.sampled_from(log), min_size=1, max_size=6)
    run_of_events = st.integers(0, len(log) - 1).map(lambda first: list(log[first : first + 4]))
    interruptions = st.sampled_from([SILENCE, OVERFLOW, GAP])
    return draw(st.lists(some_events | run_of_events | interruptions, max_size=20))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_gap_no_duplicate_nothing_after_the_end_whatever_is_heard(data: st.DataObject) -> None:
    """Client checks each message: order, fold, honest resyncs, silence before heartbeats."""
    last = data.draw(st.integers(3, 14))
    log = log_of(last, finished=True)
    kept_from = data.draw(st.integers(0, last))
    cursor = data.draw(st.integers(0, last - 2))
    heard = data.draw(what_is_heard(log))

    class Growing(FakeView):
        """Committed is what was heard of, read of, or known; snapshots may be late."""

        committed = cursor

        async def next_events(self, silence_seconds: float) -> list[CommittedEvent] | Interruption:
            events = await super().next_events(silence_seconds)
            if isinstance(events, Interruption):
                self.committed = min(last, self.committed + (events is not SILENCE))
            else:
                newest = max(event.event_id.sequence for event in events)
                self.committed = max(self.committed, newest)
            self.newest = max(self.newest or event_id(0), event_id(self.committed))
            return events

        async def read_after(self, cursor: EventId | None) -> list[CommittedEvent]:
            events = await super().read_after(cursor)
            self.committed = max([self.committed, *(each.event_id.sequence for each in events)])
            return events

        async def snapshot(self) -> SnapshotMessage | None:
            late_by = data.draw(st.integers(0, 3)) if self.fresh else 0
            self.fresh = not self.fresh
            sequence = max(cursor, self.committed - late_by)
            if sequence >= last - 1:  # the last two are committed together
                return snapshot_at(last - 1, final=True)
            return snapshot_at(sequence)

        fresh = True

    view = Growing(log[kept_from:], heard)
    view.newest = event_id(cursor)
    client, code = run(
        streamed(view, EventsAfter(event_id(cursor)), event_id(cursor), resumed(cursor))
    )
    assert (code is CloseCode.DONE) == client.finished
    assert code in (None, CloseCode.DONE, CloseCode.TOO_SLOW, CloseCode.INTERNAL_ERROR)
    if kept_from <= cursor + 1:
        assert "trimmed" not in client.resyncs
        assert code is not CloseCode.INTERNAL_ERROR
    if OVERFLOW not in heard:
        assert "slow" not in client.resyncs
