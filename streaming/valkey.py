"""Connections to Valkey, and the bounds on waiting for it."""

from typing import Final

import redis
import redis.asyncio
from django.conf import settings
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

CONNECT_SECONDS: Final = 0.5
REPLY_SECONDS: Final = 1.0
READING_CONNECTIONS: Final = 2
READING_SECONDS: Final = 2.0
"""How long one reading may take in all, with the waiting for a connection."""

_ENCODING_ERRORS: Final = "replace"  # what others may have written there must not raise

UNREACHABLE: Final = (redis.RedisError, OSError)
"""What any of these clients raises when Valkey is away or refuses."""


def writing_client() -> "redis.Redis":
    """A client whose commands fail soon: a writer waits at most about CONNECT + REPLY seconds.

    One retry on a broken connection, none on a timeout, so that a restarted Valkey is
    found again at the first command and a stopped one is not waited for twice.
    """
    return redis.Redis.from_url(
        settings.VALKEY_URL,
        decode_responses=True,
        encoding_errors=_ENCODING_ERRORS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=REPLY_SECONDS,
        retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )


def reading_client() -> "redis.asyncio.Redis":
    """A client for backlogs, with READING_CONNECTIONS connections for the whole process.

    Its users keep to READING_SECONDS by themselves: with a time limit of its own, redis-py
    sends through asyncio.wait_for(), which in Python 3.11 loses a cancellation now and then.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        settings.VALKEY_URL,
        decode_responses=True,
        encoding_errors=_ENCODING_ERRORS,
        max_connections=READING_CONNECTIONS,
        timeout=REPLY_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None,
        retry=AsyncRetry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
    )
    return redis.asyncio.Redis.from_pool(pool)


def listening_client() -> "redis.asyncio.Redis":
    """A client whose connection may be silent for any time: for subscriptions.

    A lost connection raises at once: nothing is to be made good in silence.
    """
    return redis.asyncio.Redis.from_url(
        settings.VALKEY_URL,
        decode_responses=True,
        encoding_errors=_ENCODING_ERRORS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None,
        retry=AsyncRetry(NoBackoff(), 0, supported_errors=()),
    )
