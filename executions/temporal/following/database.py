"""Threads for the mirror's database work, so that it waits neither for nor upon anyone else's."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from django.db import close_old_connections, connection, connections

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 4
_CLOSE_SECONDS: Final = 5.0


class DatabaseThreads:
    """Runs synchronous database code off the event loop, a few jobs at a time."""

    def __init__(self) -> None:
        # SQLite has one writer at a time: more threads would only wait inside its lock.
        self._is_sqlite = connection.vendor == "sqlite"
        self._size = 1 if self._is_sqlite else THREADS
        self._pool = ThreadPoolExecutor(self._size, thread_name_prefix="nexus-database")

    async def run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The job's result; raises what it raises. A cancelled wait leaves the job running."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: self._run(job, *args, **kwargs))

    def close(self) -> None:
        """Have the threads close their connections and end, without waiting for it."""
        # All at once, so that each thread closes its own.
        together = threading.Barrier(self._size)

        def close_connections() -> None:
            with suppress(threading.BrokenBarrierError):
                together.wait(_CLOSE_SECONDS)
            connections.close_all()

        for _ in range(self._size):
            self._pool.submit(close_connections)
        self._pool.shutdown(wait=False)

    def _run(self, job: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            result = job(*args, **kwargs)
        except BaseException:
            connections.close_all()
            raise
        # Opening SQLite's file anew takes five times as long as a write to it (measured:
        # 31 ms an event instead of 7); elsewhere CONN_MAX_AGE or a pool decides.
        if not self._is_sqlite:
            close_old_connections()
        return result
