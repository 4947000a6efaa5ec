"""Looking again at what a process's connections stand on, and ending those that may not stay.

A credential ends, a user is deactivated, a permission is taken away: the connections that
stand on it are closed. Every connection is looked at again and again, in turn; those of a
user whose access has just been changed somewhere are looked at at once
(`streaming.access.notices`). Belongs to one event loop.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import structlog
from channels.db import database_sync_to_async

from executions.access import may_view, surely_may_view
from streaming.access.credentials import (
    KEYS_PER_QUERY,
    Credential,
    not_surely_viewing_all,
    users_of,
)
from streaming.access.notices import hear_notices
from streaming.close_codes import CloseCode

CHECK_SECONDS: Final = 2.0
"""How often each connection is looked at again, unless there are too many for that."""

ROUTINE_SHARE: Final = 0.2
URGENT_SHARE: Final = 0.5
"""The most of the time that looking takes, in turn, and at those whose access has changed."""

LONGEST_REST_SECONDS: Final = 1.0
"""A look that was long because the database was locked is not paid for with blindness."""

WATCHED_PER_LOOK: Final = 3_000
"""How many are looked at together, unless they stand on more credentials than one query takes.

Most of a look's cost is its queries, whatever they are about; but of users who may not view
all, each execution is asked about, and the look tells no sooner than at its end.
"""

log = structlog.get_logger(__name__)


class Watched(NamedTuple):
    """What a connection stands on: equal for those that are looked at together.

    `user_key` is the user's id as text.
    """

    credential: Credential
    user_key: str
    execution_id: str


class WatchedConnection(Protocol):
    """A connection, as far as the watch knows it."""

    def bar(self) -> None:
        """Send nothing more, from this call on."""

    async def refuse(self, code: CloseCode) -> None:
        """Close it with this code."""


ByCredential = Mapping[Credential, Collection[Watched]]

Check = Callable[[ByCredential], Awaitable[dict[Watched, CloseCode]]]
"""Looks at what connections stand on; the codes to close with those that may not stay."""

Hear = Callable[[Callable[[Iterable[str] | None], None]], Coroutine[Any, Any, None]]
"""Calls back with the keys of users whose access has changed, None for anybody's."""


class AccessWatch:
    """Watches over connections from `stand` to `leave`."""

    def __init__(self, check: Check, hear: Hear) -> None:
        self._check = check
        self._watched: dict[Credential, dict[Watched, set[WatchedConnection]]] = {}
        self._standing: dict[WatchedConnection, Watched] = {}
        self._occupied = asyncio.Event()
        self._changed_users: set[str] = set()
        self._anybody_changed = False
        self._notice = asyncio.Event()
        self._endings: set[asyncio.Task[None]] = set()
        self._tasks = [
            asyncio.create_task(each)
            for each in (self._look_in_turn(), self._look_at_once(), hear(self._take))
        ]

    def stand(self, connection: WatchedConnection, watched: Watched) -> None:
        """Watch the connection, which stands on this.

        Nothing that is read from the database after this call changes unnoticed.
        """
        self._standing[connection] = watched
        of_credential = self._watched.setdefault(watched.credential, {})
        of_credential.setdefault(watched, set()).add(connection)
        self._occupied.set()

    def leave(self, connection: WatchedConnection) -> None:
        """Watch the connection no longer, if it was."""
        watched = self._standing.pop(connection, None)
        if watched is None:
            return
        of_credential = self._watched[watched.credential]
        connections = of_credential[watched]
        connections.discard(connection)
        if not connections:
            del of_credential[watched]
        if not of_credential:
            del self._watched[watched.credential]
        if not self._watched:
            self._occupied.clear()

    async def close(self) -> None:
        """End the watch's tasks."""
        tasks = [*self._tasks, *self._endings]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, user_keys: Iterable[str] | None) -> None:
        if user_keys is None:
            self._anybody_changed = True
        else:
            self._changed_users.update(user_keys)
        self._notice.set()

    async def _look_in_turn(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._occupied.wait()
            due = loop.time() + CHECK_SECONDS
            await self._look_at(list(self._watched), None, ROUTINE_SHARE)
            await asyncio.sleep(due - loop.time())

    async def _look_at_once(self) -> None:
        while True:
            await self._notice.wait()
            self._notice.clear()
            anybody, self._anybody_changed = self._anybody_changed, False
            users, self._changed_users = self._changed_users, set()
            await self._look_at(list(self._watched), None if anybody else users, URGENT_SHARE)

    async def _look_at(
        self, credentials: list[Credential], user_keys: set[str] | None, share: float
    ) -> None:
        """Look at what stands on these and is still there, taking at most that share of the time.

        Of users of these keys alone, unless there are none.
        """
        loop = asyncio.get_running_loop()
        # From the end: a list gives that away without moving the rest.
        credentials.reverse()
        while credentials:
            began = loop.time()
            looked_at = self._taken_from(credentials, user_keys)
            if not looked_at:
                continue
            try:
                refused = await self._check(looked_at)
            except Exception:  # one failed look must not be the last
                log.exception("access_unknown")
                return
            for each, code in refused.items():
                # Whoever has come meanwhile stands on nothing better.
                for connection in list(self._watched.get(each.credential, {}).get(each, ())):
                    self._end(connection, code)
            rest = (loop.time() - began) * (1 / share - 1)
            await asyncio.sleep(min(rest, LONGEST_REST_SECONDS))

    def _taken_from(
        self, credentials: list[Credential], user_keys: set[str] | None
    ) -> ByCredential:
        """What is looked at together: all of a credential, which is so asked about once."""
        taken: dict[Credential, list[Watched]] = {}
        count = 0
        while credentials and len(taken) < KEYS_PER_QUERY and count < WATCHED_PER_LOOK:
            credential = credentials.pop()
            concerned = list(self._watched.get(credential, ()))
            if user_keys is not None:
                concerned = [each for each in concerned if each.user_key in user_keys]
            if concerned:
                taken[credential] = concerned
                count += len(concerned)
        return taken

    def _end(self, connection: WatchedConnection, code: CloseCode) -> None:
        self.leave(connection)
        connection.bar()
        task = asyncio.create_task(connection.refuse(code))
        self._endings.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._endings.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("ending_failed", exc_info=error)


def refusals_of(watched: Collection[Watched]) -> dict[Watched, CloseCode]:
    """As `refusals`."""
    by_credential: defaultdict[Credential, list[Watched]] = defaultdict(list)
    for each in watched:
        by_credential[each.credential].append(each)
    return refusals(by_credential)


def refusals(watched: ByCredential) -> dict[Watched, CloseCode]:
    """Those that do not hold, with the codes to close their connections with.

    Costs a few queries, and those of `users_of` for credentials that are no tokens of users
    who may view all; for users who may not, asking about each execution. Synchronous code
    only.
    """
    doubtful = not_surely_viewing_all(watched.keys())
    users = users_of(doubtful)
    may_view_all = surely_may_view([user.pk for user in users.values()])
    may: dict[tuple[object, str], bool] = {}
    refused = {}
    for each in (each for credential in doubtful for each in watched[credential]):
        user = users.get(each.credential)
        if user is None:
            refused[each] = CloseCode.NOT_AUTHENTICATED
        elif user.pk not in may_view_all:
            asked = (user.pk, each.execution_id)
            if asked not in may:
                may[asked] = may_view(user, each.execution_id)
            if not may[asked]:
                refused[each] = CloseCode.NOT_FOUND
    # Between the two reads a user may have gone, with the permissions it had.
    unsure = [each for each, code in refused.items() if code is CloseCode.NOT_FOUND]
    still_users = users_of({each.credential for each in unsure})
    for each in unsure:
        if each.credential not in still_users:
            refused[each] = CloseCode.NOT_AUTHENTICATED
    return refused


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, AccessWatch] = WeakKeyDictionary()


def access_watch() -> AccessWatch:
    """The watch of the running event loop, made at its first use."""
    loop = asyncio.get_running_loop()
    if loop not in _watches:
        check = database_sync_to_async(refusals, thread_sensitive=False)
        _watches[loop] = AccessWatch(check, hear_notices)
    return _watches[loop]
