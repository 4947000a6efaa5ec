"""A run of two thousand activities, as many as Temporal lets a run have at once."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import jsonpatch
import pytest
from temporalio.client import Client

from executions.document import JsonObject
from executions.event_log import read_events
from executions.identifiers import EventId
from executions.temporal.examples.workflows import FanOutOptions, FanOutWorkflow
from executions.temporal.following import run_follower
from executions.temporal.following.run_describer import RunDescriber
from tests.integration.full_reads import assert_as_history_says, assert_streams_equal_logs
from tests.integration.held_worker import held_worker_running, start_with
from tests.integration.held_workflows import Held
from tests.integration.temporal_runs import in_database, run_id_of, until_ended
from tests.servers.temporal import temporal_running
from tests.servers.valkey import ValkeyServer
from tests.truth import assert_events_follow, assert_same_document, document_of_rows

pytestmark = [pytest.mark.django_db(transaction=True)]

ACTIVITIES: Final = 2_000
STEP_SECONDS: Final = 0.3
BEHIND_SECONDS: Final = 3.0
"""How much later than Temporal Nexus may know the run's end."""

EVERYTHING: Final = 2**31


@pytest.fixture
def task_queue() -> str:
    return "many-activities"


@pytest.fixture
def own_temporal_address() -> Iterator[str]:
    """Of a server of the test's own: others that mirror a whole namespace do not meet this run."""
    with temporal_running() as address:
        yield address


@pytest.fixture
def described(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, int]]:
    """When the run was described, and how much was pending then."""
    seen: list[tuple[float, int]] = []
    pending = RunDescriber.pending

    async def noted(self: RunDescriber) -> Any:
        told = await pending(self)
        seen.append((time.monotonic(), len(told)))
        return told

    monkeypatch.setattr(RunDescriber, "pending", noted)
    return seen


async def test_run_of_two_thousand_activities_is_mirrored_live_and_true(
    own_temporal_address: str,
    task_queue: str,
    valkey: ValkeyServer,
    described: list[tuple[float, int]],
) -> None:
    client = await Client.connect(own_temporal_address)
    async with held_worker_running(client, task_queue, Held()):
        began = time.monotonic()
        options = FanOutOptions(STEP_SECONDS, ACTIVITIES - 1)
        run = await start_with(client, task_queue, FanOutWorkflow, options)
        await run.result()
        ended = time.monotonic()
        await until_ended(run_id_of(run))
        assert time.monotonic() - ended < BEHIND_SECONDS
    document = await in_database(folded_document, run_id_of(run))
    await assert_as_history_says(client, run, document)
    assert len(document["activities"]) == ACTIVITIES
    assert await in_database(seen_running, run_id_of(run)) > ACTIVITIES / 2
    assert described
    for (before, _), (at, count) in pairwise([(began, 0), *described]):
        assert at - before >= max(
            run_follower.DESCRIBE_SECONDS, count / run_follower.DESCRIBED_PER_SECOND
        )
    await in_database(assert_streams_equal_logs, valkey, run_id_of(run))


def seen_running(run_id: str) -> int:
    """How many of the activities were told to be running while they were."""
    messages = [json.loads(event.message) for event in read_events(run_id, -1, EVERYTHING)]
    return len(
        {
            operation["path"]
            for message in messages
            for operation in message.get("ops", ())
            if operation["path"].endswith("/status") and operation["value"] == "running"
        }
    )


def folded_document(run_id: str) -> JsonObject:
    """The document that the log proves, without the proof that each operation is needed.

    That is quadratic: `tests.truth.assert_log_is_whole` would take minutes.
    """
    log = read_events(run_id, -1, EVERYTHING)
    assert_events_follow(run_id, EventId(0, -1), log)
    first, *patches, last = (json.loads(event.message) for event in log)
    document: JsonObject = first["execution"]
    for patch in patches:
        document = jsonpatch.apply_patch(document, patch["ops"], in_place=True)
    assert_same_document(document, last["execution"])
    assert_same_document(document, document_of_rows(run_id))
    return document
