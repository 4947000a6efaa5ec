"""Probes of web processes and of workers, while what they need is there and while it is not."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import structlog
from django.db import connection, connections

from executions.health import ANSWER_SECONDS
from nexus_project import health as probes_module
from nexus_project.health import Probes
from streaming import health as health_module
from streaming.activity_update_publisher import publisher
from streaming.hub import hub
from streaming.valkey import announcements as announcements_module
from tests import settings as test_settings
from tests.integration.database_outages import database_losable, database_lost
from tests.integration.watching import in_thread
from tests.samples import an_execution
from tests.servers import end_with_parent
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment
from tests.waiting import wait_until

pytest_plugins = ["tests.integration.temporal_fixtures"]
pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

MARGIN_SECONDS: Final = 1.5
MANAGE: Final = Path(__file__).parents[2] / "manage.py"
POD: Final = "10.1.2.3:8000"


class Told(NamedTuple):
    """What a probe was answered, and after how many seconds."""

    status: int
    body: Any
    seconds: float

    @property
    def failing(self) -> list[str]:
        return [check["name"] for check in self.body["checks"] if not check["ok"]]


async def _no_application(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("a probe is answered before the application")


@pytest.fixture
async def probes(valkey: ValkeyServer) -> AsyncIterator[Probes]:
    """Of this process, whose hub is made by the first probe."""
    others = asyncio.all_tasks()
    yield Probes(_no_application)
    await hub().close()
    assert asyncio.all_tasks() - others <= {asyncio.current_task()}


async def ask(probes: Probes, path: str) -> Told:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    began = time.monotonic()
    await probes({"type": "http", "method": "GET", "path": path, "headers": []}, None, send)
    seconds = time.monotonic() - began
    start, body = messages
    return Told(start["status"], json.loads(body["body"]), seconds)


async def ready(probes: Probes) -> Told:
    return await ask(probes, "/health/ready")


async def until_told(
    probes: Probes, condition: Callable[[Told], bool], seconds: float = 10.0
) -> Told:
    """Ask until the condition holds; each answer comes in time, and the process is live."""
    async with asyncio.timeout(seconds):
        while True:
            told = await ready(probes)
            assert told.seconds < ANSWER_SECONDS + MARGIN_SECONDS
            live = await ask(probes, "/health/live")
            assert (live.status, live.body) == (200, {"live": True})
            assert live.seconds < MARGIN_SECONDS
            if condition(told):
                return told
            await asyncio.sleep(0.02)


def is_ready(told: Told) -> bool:
    return told.status == 200


def is_not_for(*names: str) -> Callable[[Told], bool]:
    return lambda told: told.status == 503 and told.failing == list(names)


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements_module, "PING_SECONDS", 0.3)
    monkeypatch.setattr(announcements_module, "LONGEST_PAUSE_SECONDS", 0.2)


@pytest.fixture
def losable_database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with database_losable(monkeypatch):
        # What is open already can be read from.
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
        connection.close()
        yield


@asynccontextmanager
async def database_unreadable() -> AsyncIterator[None]:
    """Needs `losable_database`."""
    if connection.vendor != "sqlite":
        async with database_lost():
            yield
        return
    with _file_away(Path(test_settings.TEST_DATABASE_NAME)):
        yield


@contextmanager
def _file_away(path: Path) -> Iterator[None]:
    away = path.rename(path.with_name("away.sqlite3"))
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        away.rename(path)


async def test_first_probe_makes_the_hub_that_it_asks_about_and_waits_for_it(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes_module, "FIRST_HEARING_SECONDS", 10.0)
    told = await ready(probes)
    assert told.body == {
        "ready": True,
        "checks": [
            {"name": "valkey", "ok": True, "told": "The hub hears Valkey."},
            {"name": "database", "ok": True, "told": "The database answers."},
            {"name": "publishing", "ok": True, "told": "Nothing waits."},
        ],
    }


@pytest.mark.usefixtures("quick_pings")
async def test_valkey_killed_is_not_ready_until_it_is_back(
    probes: Probes, valkey: ValkeyServer
) -> None:
    await until_told(probes, is_ready)
    valkey.kill()
    told = await until_told(probes, is_not_for("valkey"))
    assert "valkey.sock" not in json.dumps(told.body)
    valkey.start()
    await until_told(probes, is_ready)


@pytest.mark.usefixtures("quick_pings")
async def test_valkey_stopped_is_not_ready_until_it_goes_on(
    probes: Probes, valkey: ValkeyServer
) -> None:
    await until_told(probes, is_ready)
    with valkey.stopped():
        await until_told(probes, is_not_for("valkey"))
    await until_told(probes, is_ready)


@pytest.mark.usefixtures("losable_database")
async def test_a_lost_database_is_told_in_time_and_its_return_too(probes: Probes) -> None:
    await until_told(probes, is_ready)
    async with database_unreadable():
        await until_told(probes, is_not_for("database"))
    await until_told(probes, is_ready)


@pytest.mark.usefixtures("losable_database")
async def test_whoever_can_read_is_ready_though_nobody_can_write(probes: Probes) -> None:
    await until_told(probes, is_ready)
    async with database_lost():
        told = await ready(probes)
    # Only SQLite is locked for writers alone.
    assert is_ready(told) == (connection.vendor == "sqlite")


async def test_many_probes_of_a_database_that_hangs_hold_one_thread(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def hang(*_: Any) -> bool:
        return goes_on.wait(20)

    monkeypatch.setattr("executions.health.Execution.objects.exists", hang, raising=False)
    await asyncio.gather(*(ready(probes) for _ in range(50)))
    told = await ready(probes)
    assert told.failing[-1:] == ["database"]
    assert told.seconds < MARGIN_SECONDS
    asking = [each for each in threading.enumerate() if each.name == "nexus-database-check"]
    assert len(asking) == 1
    goes_on.set()
    await until_told(probes, is_ready)


async def test_busy_threads_keep_nobody_from_being_ready(probes: Probes) -> None:
    await until_told(probes, is_ready)
    goes_on = threading.Event()
    loop = asyncio.get_running_loop()
    busy = [loop.run_in_executor(None, goes_on.wait, 20) for _ in range(100)]
    told = await ready(probes)
    goes_on.set()
    await asyncio.gather(*busy)
    assert is_ready(told)
    assert told.seconds < MARGIN_SECONDS


@pytest.mark.usefixtures("quick_pings")
async def test_a_backlog_that_grows_is_not_ready_until_it_is_worked_off(
    probes: Probes, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_module, "GROWTH_SECONDS", 0.3)
    await until_told(probes, is_ready)
    valkey.kill()
    await in_thread(an_execution)
    await until_told(probes, is_not_for("valkey", "publishing"))
    valkey.start()
    await until_told(probes, is_ready)
    assert publisher().backlog_size == 0


async def test_changes_of_readiness_are_logged_once_each(
    probes: Probes, valkey: ValkeyServer
) -> None:
    with structlog.testing.capture_logs() as logged:
        await until_told(probes, is_ready)
        await ready(probes)
        valkey.kill()
        await until_told(probes, is_not_for("valkey"))
        await ready(probes)
    told = [
        (each["event"], each["log_level"], each.get("failing"))
        for each in logged
        if each["event"] in ("ready", "not_ready")
    ]
    assert told[-2:] == [("ready", "info", None), ("not_ready", "warning", ["valkey"])]


# Over a real server


def get(address: str, host: str | None = None, method: str = "GET") -> tuple[int, Message, bytes]:
    request = urllib.request.Request(address, method=method)  # noqa: S310
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_probes_may_ask_by_any_host_and_nothing_else_may(guarded_web: WebServer) -> None:
    wait_until(lambda: get(f"{guarded_web.http}/health/ready")[0] == 200)
    for path in ("/health/live", "/health/ready"):
        status, headers, body = get(f"{guarded_web.http}{path}", POD)
        assert (status, headers["Content-Type"]) == (200, "application/json"), body
        assert headers["Cache-Control"] == "no-store"
        status, _, body = get(f"{guarded_web.http}{path}", POD, "HEAD")
        assert (status, body) == (200, b"")
        assert get(f"{guarded_web.http}{path}", method="POST")[0] in (403, 404, 405)
    for path in ("/api/v1/executions", "/metrics", "/health", "/health/live/"):
        assert get(f"{guarded_web.http}{path}", POD)[0] == 400


# Of a worker


@pytest.fixture
def worker_environment(temporal_address: str, task_queue: str) -> dict[str, str]:
    return session_environment(TEMPORAL_ADDRESS=temporal_address, NEXUS_TASK_QUEUE=task_queue)


@pytest.fixture
def worker_address(worker_environment: dict[str, str], valkey: ValkeyServer) -> Iterator[str]:
    """Where a running `manage.py temporal_worker` tells of itself."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    worker = subprocess.Popen(
        [sys.executable, MANAGE, "temporal_worker", "--metrics-port", str(port)],
        env=worker_environment,
        preexec_fn=end_with_parent,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{address}/health/live"))
        yield address
    finally:
        worker.terminate()
        worker.wait(20)


def _answers(address: str) -> bool:
    try:
        return get(address)[0] == 200
    except OSError:
        return False


def test_a_worker_tells_whether_it_can_mirror_and_what_it_measures(worker_address: str) -> None:
    wait_until(lambda: _answers(f"{worker_address}/health/ready"))
    told = json.loads(get(f"{worker_address}/health/ready")[2])
    assert [check["name"] for check in told["checks"]] == ["following", "database", "publishing"]
    _, headers, body = get(f"{worker_address}/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    for name in (
        "nexus_runs_followed 0.0",
        "nexus_history_waiting_seconds 0.0",
        "nexus_lease_held_timestamp_seconds 1.",
        "nexus_events_committed_total 0.0",
        "process_resident_memory_bytes ",
    ):
        assert f"\n{name}" in body.decode()


def test_a_worker_without_its_database_is_live_and_not_ready(
    worker_address: str, worker_environment: dict[str, str], losable_database: None
) -> None:
    # With a run to follow it writes, which is all that a lock of SQLite prevents.
    subprocess.run(
        [sys.executable, MANAGE, "start_example", "cancellable", "--steps", "10000"],
        env=worker_environment,
        check=True,
    )
    wait_until(lambda: "\nnexus_runs_followed 1.0" in get(worker_address)[2].decode())

    def is_not_following() -> bool:
        began = time.monotonic()
        status, _, body = get(f"{worker_address}/health/ready")
        assert time.monotonic() - began < ANSWER_SECONDS + MARGIN_SECONDS
        assert get(f"{worker_address}/health/live")[0] == 200
        return status == 503 and not json.loads(body)["checks"][0]["ok"]

    async def lose_the_database() -> None:
        async with database_lost():
            await asyncio.to_thread(wait_until, is_not_following)

    asyncio.run(lose_the_database())
    wait_until(lambda: _answers(f"{worker_address}/health/ready"))


def test_a_port_that_is_taken_stops_the_worker_with_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, MANAGE, "temporal_worker", "--metrics-port", str(port)],
            env=session_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert ended.returncode == 1
    assert f"cannot be served on 127.0.0.1, port {port}" in ended.stderr
    assert "Traceback" not in ended.stderr
