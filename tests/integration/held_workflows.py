"""Workflows of activities that a test holds: each goes on when the test says how.

Imported into the workflows' sandbox: nothing of Django belongs here.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError

_LIMIT = timedelta(seconds=60)


@dataclass(frozen=True)
class HeldOptions:
    """Which activities there are, all at once, and how long after a failure they are tried."""

    activity_ids: list[str] = field(default_factory=lambda: ["held"])
    retry_seconds: float = 0.05
    heartbeat_seconds: float | None = None


class Held:
    """The activity `held` of one test, whose every attempt waits for the test's next word."""

    def __init__(self) -> None:
        self._words: defaultdict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)

    def complete(self, activity_id: str = "held") -> None:
        self._words[activity_id].put_nowait("complete")

    def fail(self, activity_id: str = "held") -> None:
        self._words[activity_id].put_nowait("fail")

    def heartbeat(self, progress: float, activity_id: str = "held") -> None:
        self._words[activity_id].put_nowait(progress)

    @activity.defn
    async def held(self, activity_id: str) -> str:
        while True:
            match await self._words[activity_id].get():
                case "complete":
                    return activity_id
                case "fail":
                    attempt = activity.info().attempt
                    raise ApplicationError(f"Told to fail attempt {attempt}", type="ToldToFail")
                case progress:
                    activity.heartbeat({"progress": progress})


@workflow.defn
class HeldWorkflow:
    @workflow.run
    async def run(self, options: HeldOptions) -> None:
        seconds = options.heartbeat_seconds
        await asyncio.gather(
            *(
                workflow.start_activity(
                    "held",
                    activity_id,
                    activity_id=activity_id,
                    start_to_close_timeout=_LIMIT,
                    heartbeat_timeout=timedelta(seconds=seconds) if seconds else None,
                    retry_policy=RetryPolicy(
                        initial_interval=timedelta(seconds=options.retry_seconds),
                        backoff_coefficient=1.0,
                    ),
                )
                for activity_id in options.activity_ids
            )
        )


@workflow.defn
class EchoWorkflow:
    """One activity that returns what the run was given."""

    @workflow.run
    async def run(self, given: Any) -> Any:
        return await workflow.execute_activity(
            "echo", given, activity_id="echo", start_to_close_timeout=_LIMIT
        )


@activity.defn
async def echo(given: Any) -> Any:
    if given == "fail":
        raise ApplicationError("Told to fail", type="ToldToFail", non_retryable=True)
    return given


HELD_WORKFLOWS = (HeldWorkflow, EchoWorkflow)
