"""A Temporal dev server of the session's own, and what the tests of the mirror share."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from temporalio.client import Client

from executions.temporal import activity_sync_service
from executions.temporal.activity_sync_service import ActivitySyncService
from tests.servers.temporal import temporal_running


@pytest.fixture(scope="session")
def temporal_address() -> Iterator[str]:
    with temporal_running() as address:
        yield address


@pytest.fixture
async def client(temporal_address: str) -> Client:
    return await Client.connect(temporal_address)


@pytest.fixture
def task_queue() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> list[ActivitySyncService]:
    """The services that are started by plugins during the test."""
    started: list[ActivitySyncService] = []

    class Noted(ActivitySyncService):
        async def __aenter__(self) -> "Noted":
            started.append(self)
            return await super().__aenter__()

    monkeypatch.setattr(activity_sync_service, "ActivitySyncService", Noted)
    return started


@pytest.fixture
def discovery_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity_sync_service, "DISCOVERY_SECONDS", 0.2)
