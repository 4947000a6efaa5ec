"""Reads that many share: each after their question, few for all, nobody's end another's."""

import asyncio
from collections.abc import Collection

import pytest

from streaming import gathered_reads
from streaming.gathered_reads import GatheredReads


class Source:
    """Answers when told to, with what is true when the read begins."""

    def __init__(self) -> None:
        self.values = {"a": 1, "b": 2}
        self.asked: list[set[str]] = []
        self.may_answer = asyncio.Event()
        self.error: Exception | None = None

    async def read(self, keys: Collection[str]) -> dict[str, int]:
        self.asked.append(set(keys))
        found = {key: self.values[key] for key in keys if key in self.values}
        error = self.error
        await self.may_answer.wait()
        if error is not None:
            raise error
        return found


async def turns() -> None:
    """Let everything that needs no waiting happen."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_all_who_ask_at_once_share_one_read() -> None:
    source = Source()
    reads = GatheredReads(source.read)
    source.may_answer.set()
    answers = await asyncio.gather(*map(reads.get, ("a", "b", "a", "unknown")))
    assert answers == [1, 2, 1, None]
    assert source.asked == [{"a", "b", "unknown"}]


async def test_who_asks_while_a_read_is_under_way_is_answered_by_one_that_begins_after() -> None:
    source = Source()
    reads = GatheredReads(source.read)
    first = asyncio.create_task(reads.get("a"))
    await turns()
    source.values["a"] = 10
    later = [asyncio.create_task(reads.get(key)) for key in ("a", "b", "a")]
    await turns()
    assert source.asked == [{"a"}]
    source.may_answer.set()
    assert await first == 1
    assert await asyncio.gather(*later) == [10, 2, 10]
    assert source.asked == [{"a"}, {"a", "b"}]


async def test_read_asks_for_no_more_keys_than_a_query_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gathered_reads, "KEYS_PER_READ", 2)
    source = Source()
    source.values = {str(number): number for number in range(5)}
    source.may_answer.set()
    reads = GatheredReads(source.read)
    assert await asyncio.gather(*map(reads.get, source.values)) == [0, 1, 2, 3, 4]
    assert source.asked == [{"0", "1"}, {"2", "3"}, {"4"}]


async def test_who_gives_up_leaves_the_others_their_answer() -> None:
    source = Source()
    reads = GatheredReads(source.read)
    gives_up, stays = (asyncio.create_task(reads.get("a")) for _ in range(2))
    await turns()
    gives_up.cancel()
    await turns()
    source.may_answer.set()
    assert await stays == 1
    assert gives_up.cancelled()


async def test_failed_read_fails_those_it_was_for_and_nobody_after() -> None:
    source = Source()
    reads = GatheredReads(source.read)
    source.error = ZeroDivisionError()
    failing = [asyncio.create_task(reads.get("a")) for _ in range(2)]
    await turns()
    source.error = None
    later = asyncio.create_task(reads.get("a"))
    await turns()
    source.may_answer.set()
    for each in failing:
        with pytest.raises(ZeroDivisionError):
            await each
    assert await later == 1


def test_every_event_loop_has_reads_of_its_own() -> None:
    async def read(keys: Collection[str]) -> dict[str, int]:
        return dict.fromkeys(keys, 7)

    reads = GatheredReads(read)
    assert asyncio.run(reads.get("a")) == asyncio.run(reads.get("a")) == 7


async def test_question_that_cannot_be_answered_fails_alone() -> None:
    class Picky(Source):
        async def read(self, keys: Collection[str]) -> dict[str, int]:
            if "a" in keys:
                self.asked.append(set(keys))
                raise ZeroDivisionError
            return await super().read(keys)

    source = Picky()
    source.may_answer.set()
    reads = GatheredReads(source.read)
    failing, other = await asyncio.gather(reads.get("a"), reads.get("b"), return_exceptions=True)
    assert isinstance(failing, ZeroDivisionError)
    assert other == 2
    assert source.asked[0] == {"a", "b"}
