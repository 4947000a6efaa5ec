"""What processes log, and that no secret is in any line or message."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pytest

from tests import settings as test_settings
from tests.rest import a_token, a_user, with_token
from tests.samples import an_execution
from tests.servers import end_with_parent
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.viewers import Viewers
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MANAGE: Final = Path(__file__).parents[2] / "manage.py"
LOG: Final = test_settings.SESSION_DIR / "logging-web.log"
SECRET: Final = "s3cr3t"

UNREACHABLE: Final = {
    "VALKEY_URL": f"redis://somebody:{SECRET}@127.0.0.1:1/0",
    "DATABASE_URL": f"postgresql://somebody:{SECRET}@127.0.0.1:1/nexus",
    "NEXUS_LOG_LEVEL": "DEBUG",
}


@pytest.fixture(scope="module")
def web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    environment = session_environment(NEXUS_LOG_FORMAT="json", NEXUS_LOG_LEVEL="INFO")
    with web_running(LOG, environment) as server:
        yield server


def logged(event: str) -> list[dict[str, Any]]:
    """The entries of this name, in order; the access log's lines are no JSON."""
    lines = LOG.read_text().splitlines()
    entries = [json.loads(line) for line in lines if line.startswith("{")]
    return [entry for entry in entries if entry["event"] == event]


def ask(address: str, headers: Mapping[str, str] | None = None) -> None:
    request = urllib.request.Request(address, headers=dict(headers or {}))  # noqa: S310
    with suppress(OSError, HTTPException), urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        answer.read()


def test_a_connection_is_logged_when_it_opens_and_when_it_closes(
    web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    user = a_user("olga", may_view=True)
    execution_id = an_execution("step")
    viewer = viewers.open(web.stream(execution_id, "1000-0"), with_token(a_token(user)))
    viewer.wait_for_messages(1)
    viewer.leave()
    viewers.open(web.stream(execution_id)).wait_for_close()
    wait_until(lambda: len(logged("connection_closed")) == 2)
    opened, _ = logged("connection_opened")
    assert opened["execution_id"] == execution_id
    assert (opened["user"], opened["level"]) == (user.pk, "info")
    assert opened["timestamp"].endswith("Z")
    assert opened["logger"] == "streaming.connection_record"
    [resynced] = logged("resynced")
    assert (resynced["execution_id"], resynced["reason"]) == (execution_id, "unknown")
    closed, refused = logged("connection_closed")
    assert {name: closed[name] for name in ("execution_id", "user", "code", "by")} == {
        "execution_id": execution_id,
        "user": user.pk,
        "code": 1000,
        "by": "client",
    }
    assert closed["messages_sent"] == 1
    assert 0 < closed["seconds"] < 60
    assert {name: refused[name] for name in ("user", "code", "by", "messages_sent")} == {
        "user": "anonymous",
        "code": 4401,
        "by": "server",
        "messages_sent": 0,
    }
    assert refused["reason"] == "log in first"


def test_nothing_that_a_client_gives_in_confidence_is_in_the_log(
    web: WebServer, valkey: ValkeyServer, viewers: Viewers
) -> None:
    execution_id = an_execution("step")
    for headers in ({}, with_token(SECRET), {"Cookie": f"sessionid={SECRET}"}):
        for path in ("/api/v1/executions", "/metrics", "/health/ready", "/admin/", "/nowhere"):
            ask(f"{web.http}{path}?token={SECRET}", headers)
        stream = f"{web.stream(execution_id)}?token={SECRET}&replay={SECRET}"
        viewers.open(stream, headers).wait_for_close()
    offered = ["nexus", f"ticket.{SECRET}"]
    viewers.open(web.stream(execution_id), subprotocols=offered).wait_for_close()
    wait_until(lambda: len(logged("connection_closed")) >= 4)
    # Daphne's access log is written, to the same place, and shows the paths alone.
    wait_until(lambda: "GET /api/v1/executions" in LOG.read_text())
    wait_until(lambda: "WSCONNECT" in LOG.read_text())
    assert SECRET not in LOG.read_text()


def test_commands_that_cannot_reach_their_servers_tell_no_password(tmp_path: Path) -> None:
    # At once, for each of them waits ten seconds for the database.
    commands = (["simulate"], ["migrate"], ["up", "--no-example"], ["create_token", "olga"])
    running = [
        subprocess.Popen(
            [sys.executable, MANAGE, *arguments],
            env={
                **os.environ,
                "DJANGO_SETTINGS_MODULE": "nexus_project.settings",
                **UNREACHABLE,
                "TEMPORAL_ADDRESS": "127.0.0.1:1",
                "NEXUS_DATA_DIR": str(tmp_path / arguments[0]),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for arguments in commands
    ]
    for process in running:
        told, _ = process.communicate(timeout=60)
        assert process.returncode != 0
        assert "127.0.0.1" in told
        assert SECRET not in told


def test_a_server_that_cannot_reach_its_servers_tells_no_password(tmp_path: Path) -> None:
    log = tmp_path / "log"
    environment = session_environment(**UNREACHABLE, NEXUS_OPEN_READING="1")
    with web_running(log, environment) as server:
        ask(f"{server.http}/health/ready")
        wait_until(lambda: "announcements_lost" in log.read_text())
        wait_until(lambda: "error connecting" in log.read_text())
    assert SECRET not in log.read_text()


def test_runserver_names_the_valkey_it_misses_without_its_password(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, MANAGE, "runserver", "--noreload", "--skip-checks", "0"],
            env=session_environment(VALKEY_URL=UNREACHABLE["VALKEY_URL"]),
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,
        )
    try:
        wait_until(lambda: "Valkey does not answer at" in log.read_text())
    finally:
        process.terminate()
        process.wait(20)
    assert "redis://***@127.0.0.1:1/0" in log.read_text()
    assert SECRET not in log.read_text()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VALKEY_URL", f"redis://:{SECRET}/more@host:6379/0"),
        ("VALKEY_URL", f"valkey+tls://:{SECRET}@host"),
        ("DATABASE_URL", f"postgresql://me:{SECRET}/more@host/name"),
        ("DATABASE_URL", f"oracle9://me:{SECRET}@host/name"),
    ],
)
def test_an_address_that_cannot_be_read_is_not_quoted(name: str, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, MANAGE, "check"],
        env={**session_environment(), name: value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert f"{name} must be" in ended.stderr
    assert SECRET not in ended.stdout + ended.stderr


def test_an_unknown_log_format_is_refused_with_what_is_accepted() -> None:
    ended = subprocess.run(
        [sys.executable, MANAGE, "check"],
        env=session_environment(NEXUS_LOG_FORMAT="xml"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "NEXUS_LOG_FORMAT" in ended.stderr
    assert "line, json" in ended.stderr
