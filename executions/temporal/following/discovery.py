"""Finding runs that no worker announced: started before, elsewhere, or while all were down."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from django.db.models import Max, Q
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from executions.temporal.following.call_pace import CallPace
from executions.temporal.following.database import DatabaseThreads
from executions.temporal.models import ClosedRunsSeen
from executions.temporal.retention import EVERYWHERE

log = structlog.get_logger(__name__)

VISIBILITY_LAG: Final = timedelta(minutes=1)
"""A run may be listed this much later than it closed."""

NOTED_EVERY: Final = timedelta(minutes=1)
"""How often it is noted, if nothing was found, up to when was looked."""

JUST_STARTED: Final = timedelta(seconds=10)

EVERYTHING_SECONDS: Final = 10.0
"""How often all lists are looked through; runs that have just started, at every look."""

RUNS_PER_PAGE: Final = 500

_BEGINNING: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Discovery:
    """Looks through Temporal's lists for the runs of a task queue, or of the whole namespace.

    `claim` is given runs (run_id: workflow_id), may wait, and has noted them in the
    database when it returns: a process that dies then leaves them to the next. Closed
    runs are looked for since somebody last looked, as the database knows; the first time,
    all that Temporal has; never those from before what has been removed.
    """

    def __init__(
        self,
        client: Client,
        database: DatabaseThreads,
        pace: CallPace,
        claim: Callable[[Mapping[str, str]], Awaitable[None]],
        task_queue: str | None,
    ) -> None:
        self._client = client
        self._database = database
        self._pace = pace
        self._claim = claim
        self._task_queue = task_queue
        self._closed_since: datetime | None = None
        self._noted: datetime | None = None
        self._everything_due = 0.0

    async def look(self) -> None:
        """Claim what there is. Raises DatabaseError; that Temporal does not answer is logged."""
        now = asyncio.get_running_loop().time()
        try:
            if now >= self._everything_due:
                await self._look_through_everything()
                self._everything_due = now + EVERYTHING_SECONDS
            else:
                since = (datetime.now(UTC) - JUST_STARTED).isoformat()
                await self._claim_listed(f"ExecutionStatus = 'Running' AND StartTime >= '{since}'")
        except RPCError as error:
            if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
                self._pace.exhausted()
            log.warning("runs_not_listed", status=error.status.name, problem=error.message)

    async def _look_through_everything(self) -> None:
        began = datetime.now(UTC)
        if self._closed_since is None:
            noted = await self._database.run(self._read_noted)
            self._closed_since = self._noted = noted or _BEGINNING
        await self._claim_listed("ExecutionStatus = 'Running'")
        since = self._closed_since.isoformat()
        await self._claim_listed(f"ExecutionStatus != 'Running' AND CloseTime >= '{since}'")
        self._closed_since = began - VISIBILITY_LAG
        if self._noted is None or self._closed_since >= self._noted + NOTED_EVERY:
            await self._database.run(self._note, self._closed_since)
            self._noted = self._closed_since

    async def _claim_listed(self, query: str) -> None:
        if self._task_queue is not None:
            query += f" AND TaskQueue = {_quoted(self._task_queue)}"
        pages = self._client.list_workflows(query, page_size=RUNS_PER_PAGE)
        while pages.current_page is None or pages.next_page_token:
            await self._pace.turn()
            await pages.fetch_next_page()
            self._pace.answered()
            await self._claim({run.run_id: run.id for run in pages.current_page or ()})

    def _read_noted(self) -> datetime | None:
        own = Q(namespace=self._client.namespace, task_queue=self._task_queue or "")
        rows = ClosedRunsSeen.objects.filter(own | Q(namespace=EVERYWHERE, task_queue=""))
        latest: datetime | None = rows.aggregate(Max("closed_before"))["closed_before__max"]
        return latest

    def _note(self, moment: datetime) -> None:
        ClosedRunsSeen.objects.update_or_create(
            namespace=self._client.namespace,
            task_queue=self._task_queue or "",
            defaults={"closed_before": moment},
        )


def _quoted(text: str) -> str:
    """The text as a literal of Temporal's list filters."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
