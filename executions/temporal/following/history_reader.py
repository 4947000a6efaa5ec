"""Reading one run's history from Temporal, page by page, as it grows.

Waits and retries here; what the events mean is `history`'s part.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistoryEventAsyncIterator
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal.following.backoff import backoff_seconds
from executions.temporal.following.call_pace import CallPace
from executions.temporal.following.decoding import converter_of_run, decode, drop_payloads
from executions.temporal.metrics import history_read_failures

log = structlog.get_logger(__name__)

EVENTS_PER_PAGE: Final = 200
RETRY_SECONDS: Final = (0.1, 10.0)


class RunGoneError(LookupError):
    """Temporal has no such run, or no longer."""


class HistoryReader:
    """The pages of a run's history: those there are, and then each as it comes.

    Payloads and failures are decoded by the client's data converter, as far as it can.
    Without `keep_payloads` there are none but those that `decoding.drop_payloads` leaves.
    """

    def __init__(
        self,
        client: Client,
        workflow_id: str,
        run_id: str,
        polls: asyncio.Semaphore,
        pace: CallPace,
        keep_payloads: bool = True,
    ) -> None:
        self._run = client.get_workflow_handle(workflow_id, run_id=run_id)
        self._run_id = run_id
        self._polls = polls
        self._pace = pace
        self._keep_payloads = keep_payloads
        self._converter = converter_of_run(client, workflow_id)
        self._converter_failed = False
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
                history_read_failures.inc()
                if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
                    self._pace.exhausted()
                    await self._pace.resumed()
                    continue
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
                self._pace.answered()
                events = self._pages.current_page or ()
                await self._decode(events)
                return events

    def _from_the_start(self) -> WorkflowHistoryEventAsyncIterator:
        return self._run.fetch_history_events(wait_new_event=True, page_size=EVENTS_PER_PAGE)

    async def _decode(self, events: Sequence[HistoryEvent]) -> None:
        if not self._keep_payloads:
            for event in events:
                drop_payloads(event)
        problem = await decode(self._converter, events)
        if problem is not None and not self._converter_failed:
            self._converter_failed = True
            log.warning("payloads_not_decoded", execution_id=self._run_id, exc_info=problem)
