"""Whether and when a failed attempt is followed by another."""

import asyncio
from datetime import timedelta

import pytest
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    ServerError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)

from executions.temporal.live.retries import retry_delay, will_retry

ALWAYS = RetryPolicy(initial_interval=timedelta(seconds=1))
THRICE = RetryPolicy(maximum_attempts=3)
PICKY = RetryPolicy(non_retryable_error_types=["CardDeclined", "ValueError"])


def timeout(kind: TimeoutType | None) -> TimeoutError:
    return TimeoutError("late", type=kind, last_heartbeat_details=[])


@pytest.mark.parametrize(
    ("policy", "attempt", "error", "expected"),
    [
        (ALWAYS, 1, RuntimeError("x"), True),
        (ALWAYS, 1_000_000, RuntimeError("x"), True),
        (None, 1, RuntimeError("x"), False),
        (THRICE, 1, RuntimeError("x"), True),
        (THRICE, 2, RuntimeError("x"), True),
        (THRICE, 3, RuntimeError("x"), False),
        (THRICE, 4, RuntimeError("x"), False),
        (ALWAYS, 1, ApplicationError("x"), True),
        (ALWAYS, 1, ApplicationError("x", non_retryable=True), False),
        (ALWAYS, 1, ServerError("x"), True),
        (ALWAYS, 1, ServerError("x", non_retryable=True), False),
        (PICKY, 1, ApplicationError("x", type="CardDeclined"), False),
        (PICKY, 1, ApplicationError("x", type="CardExpired"), True),
        (PICKY, 1, ApplicationError("x"), True),
        (PICKY, 1, ValueError("x"), False),
        (PICKY, 1, UnicodeError("a ValueError by inheritance only"), True),
        (ALWAYS, 1, CancelledError(), False),
        (ALWAYS, 1, TerminatedError("x"), False),
        (ALWAYS, 1, asyncio.CancelledError(), False),
        (ALWAYS, 1, KeyboardInterrupt(), False),
        (ALWAYS, 1, timeout(TimeoutType.START_TO_CLOSE), True),
        (ALWAYS, 1, timeout(TimeoutType.HEARTBEAT), True),
        (ALWAYS, 1, timeout(TimeoutType.SCHEDULE_TO_CLOSE), False),
        (ALWAYS, 1, timeout(None), False),
    ],
)
def test_retries_follow_the_policy(
    policy: RetryPolicy | None, attempt: int, error: BaseException, expected: bool
) -> None:
    assert will_retry(policy, attempt, error) is expected


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [(None, True), (2.1, True), (2.0, False), (0.0, False), (-1.0, False)],
)
def test_no_retry_that_could_not_begin_in_time(remaining: float | None, expected: bool) -> None:
    left = None if remaining is None else timedelta(seconds=remaining)
    assert will_retry(ALWAYS, 2, RuntimeError("x"), left) is expected


@pytest.mark.parametrize(
    ("policy", "attempt", "error", "seconds"),
    [
        (ALWAYS, 1, RuntimeError(), 1),
        (ALWAYS, 4, RuntimeError(), 8),
        (ALWAYS, 50, RuntimeError(), 100),
        (ALWAYS, 100_000, RuntimeError(), 100),
        (RetryPolicy(maximum_interval=timedelta(seconds=3)), 9, RuntimeError(), 3),
        (RetryPolicy(backoff_coefficient=1.0), 9, RuntimeError(), 1),
        (ALWAYS, 9, ApplicationError("x", next_retry_delay=timedelta(seconds=7)), 7),
        (ALWAYS, 9, ApplicationError("x", next_retry_delay=timedelta(0)), 0),
    ],
)
def test_delay_grows_to_its_maximum_unless_the_error_names_one(
    policy: RetryPolicy, attempt: int, error: BaseException, seconds: float
) -> None:
    assert retry_delay(policy, attempt, error) == timedelta(seconds=seconds)
