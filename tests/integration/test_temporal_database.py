"""The mirror's database threads: their connections, and their end."""

import threading

import pytest
from django.db import connection

from executions.models import Execution
from executions.temporal.following.database import DatabaseThreads

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def is_connected() -> bool:
    return connection.connection is not None


def fail() -> None:
    Execution.objects.count()
    raise ZeroDivisionError


async def test_failed_job_leaves_no_connection_that_might_be_broken() -> None:
    threads = DatabaseThreads()
    try:
        for _ in range(8):
            assert await threads.run(Execution.objects.count) == 0
            with pytest.raises(ZeroDivisionError):
                await threads.run(fail)
        assert not await threads.run(is_connected)
    finally:
        threads.close()


async def test_sqlite_stays_open_between_jobs_and_others_give_their_connection_back() -> None:
    threads = DatabaseThreads()
    try:
        await threads.run(Execution.objects.count)
        assert await threads.run(is_connected) == (connection.vendor == "sqlite")
    finally:
        threads.close()


async def test_threads_end_when_closed() -> None:
    threads = DatabaseThreads()
    worker = await threads.run(threading.current_thread)
    threads.close()
    worker.join(10)
    assert not worker.is_alive()
