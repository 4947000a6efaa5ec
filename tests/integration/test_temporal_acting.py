"""Cancelling and terminating over REST a run that is mirrored: the effect is in its document."""

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings
from temporalio.client import Client

from executions.temporal.examples.workflows import CancellableOptions, CancellableWorkflow
from tests.integration.temporal_runs import (
    in_database,
    mirrored_document,
    run_id_of,
    start,
    until_activity,
    until_ended,
    worker_running,
)
from tests.rest import a_user, client_of

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def asked(user: User, run_id: str, verb: str) -> tuple[int, str]:
    """What the user is answered: the status, and its detail."""
    response = client_of(user).post(
        f"/api/v1/executions/{run_id}/{verb}",
        {"reason": "it takes too long"},
        content_type="application/json",
    )
    return response.status_code, response.json()["detail"]


@pytest.mark.parametrize(("verb", "ending"), [("cancel", "cancelled"), ("terminate", "terminated")])
async def test_its_effect_is_mirrored_like_any_change(
    client: Client,
    task_queue: str,
    temporal_address: str,
    settings: Settings,
    verb: str,
    ending: str,
) -> None:
    settings.TEMPORAL_ADDRESS = temporal_address
    operator = await in_database(a_user, "olga", may=["view", "cancel", "terminate"])
    async with worker_running(client, task_queue):
        run = await start(client, task_queue, CancellableWorkflow, CancellableOptions(0.5, 60))
        run_id = run_id_of(run)
        await until_activity(run_id, "1", "running")
        assert (await in_database(asked, operator, run_id, verb))[0] == 202
        await until_ended(run_id)
        status, detail = await in_database(asked, operator, run_id, verb)
    assert status == 409
    assert f"has ended, with status {ending}:" in detail
    document = await in_database(mirrored_document, run_id)
    assert document["status"] == ending
    if verb == "terminate":
        assert "it takes too long" in document["error_details"]["message"]
