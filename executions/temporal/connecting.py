"""Connecting to Temporal, which may still be starting."""

import asyncio
import logging
import time
from collections.abc import Coroutine
from functools import cache
from typing import Any, Final, TypeVar

import structlog
from temporalio.client import Client
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from executions.temporal.following.backoff import backoff_seconds

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_SECONDS: Final = (0.1, 2.0)

SETTLE_SECONDS: Final = 0.1
"""How long the SDK's threads get to finish a call before the interpreter ends.

Without it, one of eight processes ended by a crash (temporalio 1.35 on Python 3.11).
"""


class TemporalUnreachableError(ConnectionError):
    """Temporal did not answer in time; the message says what to do."""


@cache
def _runtime() -> Runtime:
    """A runtime whose own log lines go where the process' others go, not to standard output."""
    forwarding = LogForwardingConfig(logger=logging.getLogger("temporalio.core"))
    logs = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding)
    return Runtime(telemetry=TelemetryConfig(logging=logs))


async def connect(address: str, namespace: str, wait_seconds: float) -> Client:
    """A client of that namespace; raises TemporalUnreachableError after `wait_seconds`."""
    waits = backoff_seconds(*RETRY_SECONDS)
    try:
        async with asyncio.timeout(wait_seconds):
            while True:
                try:
                    return await Client.connect(address, namespace=namespace, runtime=_runtime())
                except RuntimeError as error:
                    wait = next(waits)
                    log.info("temporal_not_reached", address=address, problem=str(error))
                    await asyncio.sleep(wait)
    except TimeoutError:
        raise TemporalUnreachableError(
            f"Temporal does not answer at {address} (tried for {wait_seconds:g} s). Start one "
            "with `manage.py services`, or set TEMPORAL_ADDRESS to where yours listens."
        ) from None


def run_to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work with Temporal, after which the process may end safely."""
    try:
        return asyncio.run(work)
    finally:
        time.sleep(SETTLE_SECONDS)
