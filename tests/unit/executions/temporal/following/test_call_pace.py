"""The pace of calls: rate, order, bursts, and pauses that all keep, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from executions.temporal.following import backoff, call_pace
from executions.temporal.following.call_pace import BURST_CALLS, CallPace
from tests.unit.virtual_time import run, settle


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jitter always at its greatest: pauses are not shortened."""
    for module in (backoff, call_pace):
        monkeypatch.setattr(module.random, "uniform", lambda _, most: most)


def now() -> float:
    return asyncio.get_running_loop().time()


async def turns(pace: CallPace, count: int) -> list[float]:
    """When as many callers that ask at once get their turns, in the order of asking."""
    times: list[tuple[int, float]] = []

    async def call(caller: int) -> None:
        await pace.turn()
        times.append((caller, now()))

    await asyncio.gather(*(call(caller) for caller in range(count)))
    assert [caller for caller, _ in times] == list(range(count))
    return [time for _, time in times]


def in_virtual_time(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    run(scenario())


def test_idle_pace_lets_a_burst_through_and_spreads_the_rest_in_order() -> None:
    async def scenario() -> None:
        times = await turns(CallPace(10), BURST_CALLS + 20)
        assert times[:BURST_CALLS] == [0.0] * BURST_CALLS
        assert times[BURST_CALLS:] == pytest.approx([0.1 * call for call in range(1, 21)])

    in_virtual_time(scenario)


def test_burst_comes_back_only_with_idleness() -> None:
    async def scenario() -> None:
        pace = CallPace(10)
        await turns(pace, BURST_CALLS)
        await asyncio.sleep(0.2)
        assert await turns(pace, 4) == pytest.approx([0.2, 0.2, 0.3, 0.4])
        await asyncio.sleep(60)
        assert (await turns(pace, BURST_CALLS + 1))[-2:] == pytest.approx([60.4, 60.5])

    in_virtual_time(scenario)


def test_slow_calls_one_by_one_do_not_wait() -> None:
    async def scenario() -> None:
        pace = CallPace(10)
        for call in range(50):
            await pace.turn()
            assert now() == pytest.approx(call * 0.1)
            await asyncio.sleep(0.1)

    in_virtual_time(scenario)


def test_caller_that_gives_up_costs_the_others_nothing() -> None:
    async def scenario() -> None:
        pace = CallPace(10)
        await turns(pace, BURST_CALLS)
        gives_up = asyncio.create_task(pace.turn())
        await settle()
        gives_up.cancel()
        await asyncio.wait([gives_up])
        assert await turns(pace, 1) == pytest.approx([0.1])

    in_virtual_time(scenario)


@pytest.mark.usefixtures("no_chance")
def test_exhaustion_holds_back_who_waits_already_and_who_comes() -> None:
    async def scenario() -> None:
        pace = CallPace(10)
        await turns(pace, BURST_CALLS)
        waiting = asyncio.create_task(turns(pace, 2))
        await settle()
        pace.exhausted()
        later = await turns(pace, 2)
        assert await waiting == pytest.approx([0.5, 0.6])
        assert later == pytest.approx([0.7, 0.8])

    in_virtual_time(scenario)


@pytest.mark.usefixtures("no_chance")
def test_pauses_double_up_to_the_longest_until_a_call_is_answered() -> None:
    async def scenario() -> None:
        pace = CallPace(1_000)
        waits = []
        for _ in range(9):
            pace.exhausted()
            began = now()
            await pace.turn()
            waits.append(now() - began)
        assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 30, 30, 30])
        pace.answered()
        pace.exhausted()
        began = now()
        await pace.turn()
        assert now() - began == pytest.approx(0.5)

    in_virtual_time(scenario)


@pytest.mark.usefixtures("no_chance")
def test_many_calls_refused_together_make_one_pause() -> None:
    async def scenario() -> None:
        pace = CallPace(1_000)
        for _ in range(100):
            pace.exhausted()
        await pace.turn()
        assert now() == pytest.approx(0.5)

    in_virtual_time(scenario)


@pytest.mark.usefixtures("no_chance")
def test_answer_to_a_call_made_before_the_pause_does_not_end_the_doubling() -> None:
    async def scenario() -> None:
        pace = CallPace(1_000)
        pace.exhausted()
        pace.answered()
        await pace.turn()
        pace.exhausted()
        began = now()
        await pace.turn()
        assert now() - began == pytest.approx(1)

    in_virtual_time(scenario)


def test_refused_polls_come_back_spread_after_the_pause() -> None:
    async def scenario() -> None:
        pace = CallPace(1)
        await pace.resumed()
        assert now() == 0
        pace.exhausted()

        async def back() -> float:
            await pace.resumed()
            return now()

        times = sorted(await asyncio.gather(*(back() for _ in range(200))))
        assert 0.25 <= times[0] <= 0.55
        assert times[-1] <= 1.0
        assert len(set(times)) > 100

    in_virtual_time(scenario)


@pytest.mark.usefixtures("no_chance")
def test_poll_keeps_a_pause_that_began_while_it_waited() -> None:
    async def scenario() -> None:
        pace = CallPace(1)
        pace.exhausted()
        poll = asyncio.create_task(pace.resumed())
        await asyncio.sleep(0.6)
        pace.exhausted()
        await poll
        # Due at 1.0, where the second pause lasts until 1.6: as long again after it.
        assert now() == pytest.approx(2.6)

    in_virtual_time(scenario)
