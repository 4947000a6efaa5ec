"""Reading once for all who ask at about the same time, as a herd of viewers does."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping
from typing import Final, Generic, TypeVar
from weakref import WeakKeyDictionary

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")

KEYS_PER_READ: Final = 900
"""SQLite takes about a thousand parameters."""


class _Read(Generic[KeyT, ValueT]):
    """One read: the keys gathered for it until it begins, and its answers."""

    answers: "asyncio.Task[Mapping[KeyT, ValueT]]"

    def __init__(self) -> None:
        self.keys: set[KeyT] = set()
        self.has_begun = False


class GatheredReads(Generic[KeyT, ValueT]):
    """Answers by `read`, which is given all keys that were asked for while it was busy.

    Each read begins after everybody whom it answers has asked, so that an answer is never
    older than its question; and after the read before it has ended. Where a read fails, each
    question is asked by itself.
    """

    def __init__(
        self, read: Callable[[Collection[KeyT]], Awaitable[Mapping[KeyT, ValueT]]]
    ) -> None:
        self._read = read
        self._newest: WeakKeyDictionary[asyncio.AbstractEventLoop, _Read[KeyT, ValueT]]
        self._newest = WeakKeyDictionary()

    async def get(self, key: KeyT) -> ValueT | None:
        """What `read` finds for the key; None where it finds nothing. Raises what it raises."""
        loop = asyncio.get_running_loop()
        newest = self._newest.get(loop)
        if newest is None or newest.has_begun or len(newest.keys) >= KEYS_PER_READ:
            read: _Read[KeyT, ValueT] = _Read()
            read.answers = asyncio.create_task(self._answer(read, newest))
            newest = self._newest[loop] = read
        newest.keys.add(key)
        try:
            # Whoever gives up does not take the others' answer away.
            return (await asyncio.shield(newest.answers)).get(key)
        except Exception:
            if len(newest.keys) == 1:
                raise
            # One question's failure is not to be the others'.
            return (await self._read([key])).get(key)

    async def _answer(
        self, read: _Read[KeyT, ValueT], before: _Read[KeyT, ValueT] | None
    ) -> Mapping[KeyT, ValueT]:
        if before is not None:
            await asyncio.wait([before.answers])
        read.has_begun = True
        return await self._read(read.keys)
