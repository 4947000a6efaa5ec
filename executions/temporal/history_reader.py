"""Reading one run's history from Temporal, page by page, as it grows.

Waits and retries here; what the events mean is `history`'s part.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistoryEventAsyncIterator
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal.backoff import backoff_seconds
from executions.temporal.failures import failures_in

log = structlog.get_logger(__name__)

EVENTS_PER_PAGE: Final = 200
RETRY_SECONDS: Final = (0.1, 10.0)


class RunGoneError(LookupError):
    """Temporal has no such run, or no longer."""


class HistoryReader:
    """The pages of a run's history: those there are, and then each as it comes."""

    def __init__(
        self, client: Client, workflow_id: str, run_id: str, polls: asyncio.Semaphore
    ) -> None:
        self._client = client
        self._run = client.get_workflow_handle(workflow_id, run_id=run_id)
        self._run_id = run_id
        self._polls = polls
        self._pages = self._from_the_start()

    async def next_page(self) -> Sequence[HistoryEvent]:
        """The next events, waited for; none where the server ended the wait.

        After a failure that its page token did not survive, pages begin at event 1
        again. Retries until it succeeds; raises RunGoneError.
        """
        waits = backoff_seconds(*RETRY_SECONDS)
        while True:
            try:
                async with self._polls:
                    if self._pages.current_page is not None and not self._pages.next_page_token:
                        self._pages = self._from_the_start()
                    await self._pages.fetch_next_page()
            except RPCError as error:
                if error.status is RPCStatusCode.NOT_FOUND:
                    raise RunGoneError(f"Temporal has no run {self._run_id}") from error
                if error.status is RPCStatusCode.INVALID_ARGUMENT:
                    self._pages = self._from_the_start()
                wait = next(waits)
                log.warning(
                    "history_not_read",
                    execution_id=self._run_id,
                    status=error.status.name,
                    problem=error.message,
                    retry_seconds=round(wait, 3),
                )
                await asyncio.sleep(wait)
            else:
                events = self._pages.current_page or ()
                for event in events:
                    for failure in failures_in(event):
                        await self._decode(failure)
                return events

    def _from_the_start(self) -> WorkflowHistoryEventAsyncIterator:
        return self._run.fetch_history_events(wait_new_event=True, page_size=EVENTS_PER_PAGE)

    async def _decode(self, failure: Failure) -> None:
        """Bring messages that the client's data converter encoded back into the failure."""
        if not _is_encoded(failure):
            return
        try:
            decoded: BaseException | None = await self._client.data_converter.decode_failure(
                failure
            )
        except Exception:
            log.warning("failure_not_decoded", execution_id=self._run_id, exc_info=True)
            return
        link: Failure | None = failure
        while link is not None:
            if isinstance(decoded, FailureError) and link.HasField("encoded_attributes"):
                link.message = decoded.message
            link = link.cause if link.HasField("cause") else None
            decoded = decoded.__cause__ if decoded else None


def _is_encoded(failure: Failure) -> bool:
    return failure.HasField("encoded_attributes") or (
        failure.HasField("cause") and _is_encoded(failure.cause)
    )
