"""Whether Temporal will try an activity again after an attempt failed, and when. Pure.

The rule is the server's (https://docs.temporal.io/encyclopedia/retry-policies); a worker
applies it to what it knows, to tell of a retry before the server does.
"""

from datetime import timedelta
from typing import Final

from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    ServerError,
    TerminatedError,
    TimeoutError,
    TimeoutType,
)

_RETRYABLE_TIMEOUTS: Final = (TimeoutType.START_TO_CLOSE, TimeoutType.HEARTBEAT)
_DEFAULT_MAXIMUM: Final = 100
"""The longest wait is this many initial intervals where the policy names none."""


def will_retry(
    policy: RetryPolicy | None,
    attempt: int,
    error: BaseException,
    remaining: timedelta | None = None,
) -> bool:
    """Whether another attempt follows the failed one; False where the policy is unknown.

    `remaining` is the time left for all attempts together (schedule-to-close), None
    where it is not limited. The server may still decide otherwise, as when the activity
    was cancelled meanwhile.
    """
    if policy is None or not isinstance(error, Exception):
        return False
    if policy.maximum_attempts and attempt >= policy.maximum_attempts:
        return False
    if remaining is not None and retry_delay(policy, attempt, error) >= remaining:
        return False
    match error:
        case CancelledError() | TerminatedError():
            return False
        case ApplicationError(non_retryable=True) | ServerError(non_retryable=True):
            return False
        case TimeoutError(type=kind) if kind not in _RETRYABLE_TIMEOUTS:
            return False
        case ApplicationError(type=kind):
            pass
        case _:
            kind = type(error).__name__
    return kind not in (policy.non_retryable_error_types or ())


def retry_delay(policy: RetryPolicy, attempt: int, error: BaseException) -> timedelta:
    """How long Temporal waits between this failed attempt and the next."""
    if isinstance(error, ApplicationError) and error.next_retry_delay is not None:
        return error.next_retry_delay
    longest = policy.maximum_interval or policy.initial_interval * _DEFAULT_MAXIMUM
    shortest = max(policy.initial_interval, timedelta(microseconds=1))
    try:
        return min(longest, shortest * policy.backoff_coefficient ** (attempt - 1))
    except OverflowError:
        return longest
