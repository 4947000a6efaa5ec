"""A connection's queue: what is queued when, its bound, and what ends the waiting."""

import asyncio

import pytest

from executions.events import CommittedEvent
from executions.identifiers import EventId
from streaming import subscription as subscription_module
from streaming.subscription import Interruption, Subscription
from tests.unit.virtual_time import run

BOUND = 100


@pytest.fixture(autouse=True)
def _small_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription_module, "QUEUE_CHARACTERS", BOUND)


def event(sequence: int, characters: int = 10) -> CommittedEvent:
    return CommittedEvent(EventId(1, sequence), "x" * characters)


def live() -> Subscription:
    subscription = Subscription()
    subscription.go_live()
    return subscription


async def taken(subscription: Subscription) -> list[int] | Interruption:
    events = await subscription.next_events(30)
    return events if isinstance(events, Interruption) else [e.event_id.sequence for e in events]


def test_before_it_goes_live_nothing_is_queued() -> None:
    async def scenario() -> None:
        subscription = Subscription()
        subscription.offer(event(1))
        subscription.interrupt(Interruption.GAP)
        assert await taken(subscription) is Interruption.SILENCE

    run(scenario())


def test_what_came_before_the_waiting_is_returned_at_once_all_of_it_and_once() -> None:
    async def scenario() -> None:
        subscription = live()
        subscription.offer(event(1))
        subscription.offer(event(2))
        assert await taken(subscription) == [1, 2]
        assert asyncio.get_running_loop().time() == 0
        assert await taken(subscription) is Interruption.SILENCE

    run(scenario())


def test_what_comes_during_the_waiting_ends_it() -> None:
    async def scenario() -> None:
        subscription = live()
        asyncio.get_running_loop().call_later(5, subscription.offer, event(1))
        assert await taken(subscription) == [1]
        assert asyncio.get_running_loop().time() == 5

    run(scenario())


def test_silence_is_told_after_its_seconds_and_again() -> None:
    async def scenario() -> None:
        subscription = live()
        for seconds in (30, 60):
            assert await taken(subscription) is Interruption.SILENCE
            assert asyncio.get_running_loop().time() == seconds

    run(scenario())


def test_queue_holds_its_bound_and_not_one_character_more() -> None:
    async def scenario() -> None:
        subscription = live()
        for sequence in range(10):
            subscription.offer(event(sequence, BOUND // 10))
        assert await taken(subscription) == list(range(10))
        for sequence in range(10):
            subscription.offer(event(sequence, BOUND // 10))
        subscription.offer(event(10, 1))
        assert await taken(subscription) is Interruption.OVERFLOW

    run(scenario())


def test_one_event_larger_than_the_bound_gets_through() -> None:
    async def scenario() -> None:
        subscription = live()
        subscription.offer(event(1, BOUND * 5))
        assert await taken(subscription) == [1]
        subscription.offer(event(2, BOUND * 5))
        subscription.offer(event(3, 1))
        assert await taken(subscription) is Interruption.OVERFLOW

    run(scenario())


def test_what_was_taken_no_longer_counts() -> None:
    async def scenario() -> None:
        subscription = live()
        for sequence in range(50):
            subscription.offer(event(sequence, BOUND))
            assert await taken(subscription) == [sequence]

    run(scenario())


@pytest.mark.parametrize("why", [Interruption.OVERFLOW, Interruption.GAP])
def test_interruption_is_told_once_and_nothing_is_queued_until_live_again(
    why: Interruption,
) -> None:
    async def scenario() -> None:
        subscription = live()
        subscription.offer(event(1))
        subscription.interrupt(why)
        subscription.offer(event(2))
        assert await taken(subscription) is why
        subscription.offer(event(3))
        assert await taken(subscription) is Interruption.SILENCE
        subscription.go_live()
        subscription.offer(event(4, BOUND))
        assert await taken(subscription) == [4]

    run(scenario())


def test_overflow_holds_nothing_in_memory() -> None:
    async def scenario() -> None:
        subscription = live()
        for sequence in range(1_000):
            subscription.offer(event(sequence))
        assert not subscription._queue
        assert subscription._queued_characters == 0

    run(scenario())


@pytest.mark.parametrize(("seconds", "is_too_old"), [(9.9, False), (10.1, True)])
class TestAge:
    def test_of_the_first_in_the_queue_is_looked_at_when_another_comes(
        self, seconds: float, is_too_old: bool
    ) -> None:
        async def scenario() -> None:
            subscription = live()
            subscription.offer(event(1))
            await asyncio.sleep(seconds)
            subscription.offer(event(2))
            assert len(subscription._queue) == (0 if is_too_old else 2)
            assert await taken(subscription) == (Interruption.OVERFLOW if is_too_old else [1, 2])

        run(scenario())

    def test_of_the_first_in_the_queue_is_looked_at_when_it_is_to_be_taken(
        self, seconds: float, is_too_old: bool
    ) -> None:
        async def scenario() -> None:
            subscription = live()
            subscription.offer(event(1))
            await asyncio.sleep(seconds)
            assert await taken(subscription) == (Interruption.OVERFLOW if is_too_old else [1])

        run(scenario())

    def test_counts_on_while_what_was_taken_is_being_sent(
        self, seconds: float, is_too_old: bool
    ) -> None:
        async def scenario() -> None:
            subscription = live()
            subscription.offer(event(1))
            await asyncio.sleep(1)
            being_sent = await subscription.next_events(30)
            assert isinstance(being_sent, list)
            await asyncio.sleep(seconds - 1)
            subscription.offer(event(2))
            assert len(being_sent) == (0 if is_too_old else 1)
            assert await taken(subscription) == (Interruption.OVERFLOW if is_too_old else [2])

        run(scenario())

    def test_of_what_was_sent_does_not_count(self, seconds: float, is_too_old: bool) -> None:
        async def scenario() -> None:
            subscription = live()
            subscription.offer(event(1))
            assert await taken(subscription) == [1]
            asyncio.get_running_loop().call_later(seconds, subscription.offer, event(2))
            assert await taken(subscription) == [2]

        run(scenario())


class Room:
    """Takes events at once while it has room."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.is_there = True

    def take(self, event: CommittedEvent) -> bool:
        if self.is_there:
            self.sent.append(event.event_id.sequence)
        return self.is_there


class TestSendingAtOnce:
    def test_while_it_waits_what_comes_is_sent_and_the_waiting_goes_on(self) -> None:
        async def scenario() -> None:
            subscription, room = Subscription(), Room()
            subscription.go_live(room.take)
            for sequence in (1, 2):
                asyncio.get_running_loop().call_later(sequence, subscription.offer, event(sequence))
            assert await taken(subscription) is Interruption.SILENCE
            assert room.sent == [1, 2]

        run(scenario())

    def test_while_another_is_being_sent_what_comes_is_queued(self) -> None:
        async def scenario() -> None:
            subscription, room = Subscription(), Room()
            subscription.go_live(room.take)
            subscription.offer(event(1))
            assert await taken(subscription) == [1]
            subscription.offer(event(2))
            assert await taken(subscription) == [2]
            assert room.sent == []

        run(scenario())

    def test_behind_what_had_no_room_everything_is_queued(self) -> None:
        async def scenario() -> None:
            subscription, room = Subscription(), Room()
            subscription.go_live(room.take)

            def come() -> None:
                room.is_there = False
                subscription.offer(event(1))
                room.is_there = True
                subscription.offer(event(2))

            asyncio.get_running_loop().call_later(1, come)
            assert await taken(subscription) == [1, 2]
            assert room.sent == []

        run(scenario())

    @pytest.mark.parametrize("why", [Interruption.OVERFLOW, Interruption.GAP])
    def test_after_an_interruption_nothing_is(self, why: Interruption) -> None:
        async def scenario() -> None:
            subscription, room = Subscription(), Room()
            subscription.go_live(room.take)

            def come() -> None:
                subscription.interrupt(why)
                subscription.offer(event(1))

            asyncio.get_running_loop().call_later(1, come)
            assert await taken(subscription) is why
            assert room.sent == []

        run(scenario())


def test_interruption_ends_the_waiting() -> None:
    async def scenario() -> None:
        subscription = live()
        asyncio.get_running_loop().call_later(5, subscription.interrupt, Interruption.GAP)
        assert await taken(subscription) is Interruption.GAP
        assert asyncio.get_running_loop().time() == 5

    run(scenario())
