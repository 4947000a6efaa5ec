"""Adopting Nexus in one's own worker, word for word as the README says, of every kind."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.acceptance.test_own_project import OwnProject
from tests.readme import PROJECT, code_blocks
from tests.servers.valkey import ValkeyServer

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = pytest.mark.acceptance

_PIP, WORKER, MIGRATE, PLUGIN = code_blocks("In your own worker")

ACTIVITIES: Final = {
    "asynchronous": """
@activity.defn
async def charge(order: str) -> str:
    return order

@activity.defn
async def ship(order: str) -> str:
    return order

executor = None
""",
    "threads": """
@activity.defn
def charge(order: str) -> str:
    return order

@activity.defn
def ship(order: str) -> str:
    return order

executor = {"activity_executor": ThreadPoolExecutor(2)}
""",
    "processes": """
@activity.defn
def charge(order: str) -> str:
    return order

@activity.defn
def ship(order: str) -> str:
    return order

def executor_of(manager):
    return {
        "activity_executor": ProcessPoolExecutor(2, multiprocessing.get_context("spawn")),
        "shared_state_manager": SharedStateManager.create_from_multiprocessing(manager),
    }
""",
}

PROGRAM: Final = """
import asyncio, json, multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import SharedStateManager, Worker
{activities}
@workflow.defn(sandboxed=False)
class OrderWorkflow:
    @workflow.run
    async def run(self, order: str) -> str:
        for step in (charge, ship):
            order = await workflow.execute_activity(
                step, order, start_to_close_timeout=timedelta(seconds=20)
            )
        return order

async def main(address, options):
    client = await Client.connect(address)
{worker}
    async with worker:
        run = await client.start_workflow(
            OrderWorkflow.run, "1042", id="order-1042", task_queue="orders"
        )
        await run.result()
    print(run.first_execution_run_id)

if __name__ == "__main__":
    import os
    assert {without_django} == ("DJANGO_SETTINGS_MODULE" not in os.environ)
    with multiprocessing.Manager() as manager:
        options = executor_of(manager) if "executor_of" in globals() else executor or {{}}
        asyncio.run(main(sys.argv[1], options))
"""

LOOK: Final = """
import json, sys, django
django.setup()
from executions.snapshots import read_snapshot
print(json.dumps(read_snapshot(sys.argv[1]).document))
"""


def program(kind: str, *, without_django: bool) -> str:
    """A worker's own program around the README's code; options go to its Worker(…)."""
    worker = WORKER.replace("plugins=[NexusPlugin()],", "plugins=[NexusPlugin()], **options,")
    indented = "\n".join(f"    {line}" for line in worker.splitlines())
    return PROGRAM.format(
        activities=ACTIVITIES[kind], worker=indented, without_django=without_django
    )


def assert_is_shown(document: dict[str, object]) -> None:
    assert document["status"] == "completed"
    activities = document["activities"]
    assert isinstance(activities, list)
    names = [(each["activity_name"], each["status"]) for each in activities]
    assert names == [("charge", "completed"), ("ship", "completed")]


@pytest.mark.parametrize("kind", list(ACTIVITIES))
def test_worker_without_a_django_project_is_mirrored(
    kind: str, tmp_path: Path, valkey: ValkeyServer, temporal_address: str
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if "NEXUS" not in name},
        "PYTHONPATH": str(PROJECT),
        "NEXUS_DATA_DIR": str(tmp_path / "data"),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}",
        "VALKEY_URL": valkey.url,
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)

    def run(*command: str, **more: str) -> str:
        done = subprocess.run(
            command, env=environment | more, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(f"{Path(sys.executable).parent}/{MIGRATE.split()[0]}", *MIGRATE.split()[1:])
    (tmp_path / "own_worker.py").write_text(program(kind, without_django=True))
    run_id = run(sys.executable, "own_worker.py", temporal_address).strip()
    settings = {"DJANGO_SETTINGS_MODULE": "nexus_project.settings"}
    assert_is_shown(json.loads(run(sys.executable, "-c", LOOK, run_id, **settings)))


def test_worker_of_a_django_project_with_nexus_uses_its_database(
    tmp_path: Path, valkey: ValkeyServer, temporal_address: str
) -> None:
    project = OwnProject(tmp_path, valkey.url)
    project.run("-m", "django", "migrate", "--verbosity", "0")
    path = tmp_path / "own_worker.py"
    path.write_text(program("asynchronous", without_django=False))
    run_id = project.run(str(path), temporal_address).strip()
    assert_is_shown(json.loads(project.run("-c", LOOK, run_id)))


def test_options_of_the_plugin_are_what_it_accepts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"from executions.temporal.plugin import NexusPlugin\n{PLUGIN}"],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
