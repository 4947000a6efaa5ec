"""`manage.py temporal_worker` and `manage.py start_example`, as processes."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from executions.snapshots import read_snapshot
from tests.servers.web import session_environment

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

MANAGE = Path(__file__).parents[2] / "manage.py"
NOBODY_LISTENS = "127.0.0.1:1"


class Nexus:
    """Runs management commands against one Temporal and one task queue."""

    def __init__(self, address: str, task_queue: str, namespace: str = "default") -> None:
        self._environment = session_environment(
            TEMPORAL_ADDRESS=address, TEMPORAL_NAMESPACE=namespace, NEXUS_TASK_QUEUE=task_queue
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, MANAGE, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @contextmanager
    def worker(self, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
        with subprocess.Popen(
            [sys.executable, MANAGE, "temporal_worker", *arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def nexus(temporal_address: str, task_queue: str) -> Nexus:
    return Nexus(temporal_address, task_queue)


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_worker_says_once_that_it_is_ready_and_stops_cleanly(
    nexus: Nexus, task_queue: str, temporal_address: str
) -> None:
    with nexus.worker() as worker:
        ready = f"Temporal worker is ready on task queue {task_queue} "
        assert line_of(worker) == f"{ready}(namespace default at {temporal_address})\n"
        started = nexus.run("start_example", "cancellable", "--step-seconds", "0.1")
        assert started.returncode == 0
        asked = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert time.monotonic() - asked < 10
        assert line_of(worker) == ""


def test_example_prints_its_execution_id_alone_and_waits_on_request(nexus: Nexus) -> None:
    with nexus.worker() as worker:
        line_of(worker)
        done = nexus.run("start_example", "--step-seconds", "0.05", "--wait")
        assert done.returncode == 0, done.stderr
        execution_id = done.stdout.removesuffix("\n")
        snapshot = read_snapshot(execution_id)
        assert snapshot is not None
        assert snapshot.document["workflow_type"] == "PipelineWorkflow"
        assert snapshot.document["status"] == "completed"
        assert f"execution {execution_id} is completed" in done.stderr


def test_example_can_be_cancelled_from_the_command_line(nexus: Nexus) -> None:
    with nexus.worker() as worker:
        line_of(worker)
        done = nexus.run(
            "start_example", "cancellable", "--steps", "10000", "--step-seconds", "0.05",
            "--cancel-after", "0.5", "--wait",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        snapshot = read_snapshot(done.stdout.strip())
        assert snapshot is not None
        assert snapshot.document["status"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["pipelin"], "invalid choice: 'pipelin' (choose from 'pipeline', 'fan_out', "),
        (["pipeline", "--width", "3"], "pipeline has no --width: it takes --step-seconds"),
        (["--step-seconds", "soon"], "invalid float value: 'soon'"),
    ],
)
def test_wrong_arguments_are_refused_with_what_is_accepted(
    nexus: Nexus, arguments: list[str], problem: str
) -> None:
    done = nexus.run("start_example", *arguments)
    assert done.returncode != 0
    assert done.stdout == ""
    assert problem in done.stderr


def test_help_lists_the_examples_with_their_options(nexus: Nexus) -> None:
    done = nexus.run("start_example", "--help")
    assert done.returncode == 0
    for line in (
        "  pipeline     Five steps one after another; process_data fails once and is retried.",
        "               --step-seconds 1.0 --width 10",
        "  cancellable  A long step that reports its progress and can be cancelled at any time.",
    ):
        assert line in done.stdout


@pytest.mark.parametrize("command", ["temporal_worker", "start_example"])
def test_temporal_that_does_not_answer_is_named_with_a_remedy(
    task_queue: str, command: str
) -> None:
    done = Nexus(NOBODY_LISTENS, task_queue).run(command, "--wait-seconds", "0.5")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"Temporal does not answer at {NOBODY_LISTENS} (tried for 0.5 s)" in done.stderr
    assert "manage.py services" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("temporal_worker", "the worker has ended: Worker validation failed: "),
        ("start_example", "Temporal refused: Namespace no-such-namespace is not found"),
    ],
)
def test_unknown_namespace_is_said_on_standard_error(
    temporal_address: str, task_queue: str, command: str, problem: str
) -> None:
    nexus = Nexus(temporal_address, task_queue, namespace="no-such-namespace")
    done = nexus.run(command)
    assert done.returncode == 1
    assert done.stdout == ""
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_worker_that_still_waits_for_temporal_can_be_stopped(task_queue: str) -> None:
    with Nexus(NOBODY_LISTENS, task_queue).worker("--wait-seconds", "600") as worker:
        # The handler is there once Django is: until then the default action ends it as well.
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) in (0, -signal.SIGTERM)
