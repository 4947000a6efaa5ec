"""`make run` as a stranger uses it: in a copy of the working tree, ended in every way there is."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[2]
READY_SECONDS = 90.0
STOP_SECONDS = 40.0
FOREIGN = re.compile(r"NEXUS_|VALKEY_|TEMPORAL_|DATABASE_URL|DJANGO_|MAKE|MFLAGS|COV")


class MakeRun:
    """One `make run` in a session of its own, as a terminal has it."""

    def __init__(self, checkout: Path, data_dir: Path, port: int, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = port
        data_dir.mkdir(parents=True, exist_ok=True)
        self._output_path = data_dir.with_suffix(f".{time.monotonic_ns()}.out")
        self._checkout = checkout
        self.environment = {
            name: value for name, value in os.environ.items() if not FOREIGN.match(name)
        } | {"NEXUS_DATA_DIR": str(data_dir), "NEXUS_PORT": str(port), **settings}
        with self._output_path.open("wb") as output:
            self.make = subprocess.Popen(
                ["make", "run"],
                cwd=checkout,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self._output_path.read_text()

    def until_ready(self) -> None:
        line = f"Nexus is ready at http://127.0.0.1:{self.port}"
        self.until(
            lambda: line in self.output.splitlines() or self.make.poll() is not None, READY_SECONDS
        )
        assert self.output.splitlines().count(line) == 1, self.output

    def until_ended(self) -> int:
        self.until(lambda: self.make.poll() is not None, STOP_SECONDS)
        status = self.make.wait()
        self.until_nothing_runs()
        return status

    def until_nothing_runs(self) -> None:
        self.until(lambda: not self.processes(), STOP_SECONDS)

    def processes(self) -> dict[int, str]:
        """Every process that has to do with our data directory, by its command line."""
        needle = os.fsencode(self.data_dir) + b"\0"
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    about = command + b"\0" + (entry / "environ").read_bytes() + b"\0"
                    if needle in about or os.fsencode(self.data_dir) + b"/" in about:
                        found[int(entry.name)] = command.replace(b"\0", b" ").decode()
        return found

    def up_pid(self) -> int:
        pid: int = json.loads((self.data_dir / "running.lock").read_text())[0]
        return pid

    def pid_of(self, part: str) -> int:
        [pid] = [pid for pid, command in self.processes().items() if part in command]
        return pid

    def told(self, what: str) -> str:
        """What stands after `what` in the lines that say where to look."""
        [line] = [each for each in self.output.splitlines() if each.startswith(f"  {what} ")]
        return line.removeprefix(f"  {what} ").strip()

    def get(self, url: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", url.removeprefix(f"http://127.0.0.1:{self.port}"))
        response = connection.getresponse()
        answer = response.status, response.read().decode()
        connection.close()
        return answer

    def viewer_check(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*shlex.split(self.told("Viewer")), "--check", "--timeout", "60"],
            cwd=self._checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def interrupt(self) -> int:
        """What Ctrl-C on the terminal does; the exit status of make."""
        os.killpg(self.make.pid, signal.SIGINT)
        return self.until_ended()

    def clean_up(self) -> None:
        for pid in [*self.processes(), self.make.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.make.wait()

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{self.processes()}\n{self.output}"
            time.sleep(0.05)


Start = Callable[..., MakeRun]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree's files, with the installed environment instead of an empty one."""
    copy = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (PROJECT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, copy / name)
    environment = copy / ".venv"
    environment.mkdir()
    for part in Path(sys.prefix).iterdir():
        if part.suffix != ".lock":
            (environment / part.name).symlink_to(part)
    shutil.copy(copy / "requirements.lock", environment)
    return copy


@pytest.fixture
def start(checkout: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `make run`: by default with a port of its own and this test's data directory."""
    running: list[MakeRun] = []

    def start_one(name: str = "data", port: int | None = None, **settings: str) -> MakeRun:
        started = MakeRun(checkout, tmp_path / name, port or free_port(), **settings)
        running.append(started)
        return started

    yield start_one
    for each in running:
        each.clean_up()


def admin_page(nexus: MakeRun, path: str) -> str:
    """A page of the admin, seen by the demo user as the start told of it."""
    login = re.search(r"user (\S+), password (\S+)\)", nexus.told("Admin"))
    assert login
    cookies = CookieJar()
    browser = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(cookies)
    )
    address = nexus.told("Admin").split()[0]
    browser.open(f"{address}login/").read()
    form = {
        "username": login[1],
        "password": login[2],
        "csrfmiddlewaretoken": next(each.value for each in cookies if each.name == "csrftoken"),
        "next": f"/admin/{path}",
    }
    page = browser.open(f"{address}login/", urllib.parse.urlencode(form).encode())
    assert page.url == f"{address}{path}"
    text: str = page.read().decode()
    return text


def test_first_start_shows_a_verified_execution_and_the_second_start_still_has_it(
    start: Start,
) -> None:
    first = start()
    first.until_ready()

    status, body = first.get(first.told("Execution"))
    assert status == 200
    execution_id = json.loads(body)["execution_id"]
    assert first.told("WebSocket").endswith(f"/api/v1/ws/executions/{execution_id}")
    check = first.viewer_check()
    assert check.returncode == 0, check.stdout + check.stderr
    _, body = first.get(first.told("Execution"))
    assert len(json.loads(body)["activities"]) == 5
    assert execution_id in admin_page(first, "executions/execution/")
    assert "open to anyone on this machine" in first.told("Access")

    first.interrupt()
    assert first.output.endswith("Nexus has stopped.\n")
    order = re.findall(r"^  (\w+) +stopped$", first.output, re.MULTILINE)
    assert order == ["web", "worker", "temporal", "valkey"]
    assert "Error" not in first.output
    assert "Traceback" not in first.output

    began = time.monotonic()
    second = start(port=first.port)
    second.until_ready()
    assert time.monotonic() - began < 30
    status, body = second.get(f"/api/v1/executions/{execution_id}")
    assert (status, json.loads(body)["status"]) == (200, "completed")
    assert second.told("Admin") == first.told("Admin")
    assert execution_id not in second.told("Execution")


def test_killed_up_and_killed_make_leave_no_process_and_the_next_start_works(start: Start) -> None:
    nexus = start()
    nexus.until_ready()
    os.kill(nexus.up_pid(), signal.SIGKILL)
    assert nexus.until_ended() != 0

    again = start(port=nexus.port)
    again.until_ready()
    assert len(again.processes()) > 5
    again.make.kill()
    again.make.wait()
    again.until_nothing_runs()
    assert again.output.endswith("Nexus has stopped.\n")


def test_killed_while_starting_leaves_no_process(start: Start) -> None:
    nexus = start()
    nexus.until(lambda: "temporal   ready" in nexus.output, READY_SECONDS)
    os.kill(nexus.up_pid(), signal.SIGKILL)
    nexus.until_ended()


def test_sigterm_stops_all_in_order_and_up_succeeds(start: Start) -> None:
    nexus = start()
    nexus.until_ready()
    os.kill(nexus.up_pid(), signal.SIGTERM)
    assert nexus.until_ended() == 0
    assert nexus.output.endswith("Nexus has stopped.\n")


def test_ended_worker_is_named_with_its_log_and_stops_the_rest(start: Start) -> None:
    nexus = start()
    nexus.until_ready()
    os.kill(nexus.pid_of("temporal_worker"), signal.SIGKILL)
    assert nexus.until_ended() != 0
    assert "worker ended unexpectedly (killed by SIGKILL)" in nexus.output
    assert "Temporal worker is ready" in nexus.output
    assert re.search(r"run\] Error 1$", nexus.output, re.MULTILINE)


def test_port_in_use_is_said_before_anything_is_started(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nexus = start(port=taken.getsockname()[1])
        assert nexus.until_ended() != 0
    assert "Set NEXUS_PORT to a free port" in nexus.output
    assert "Traceback" not in nexus.output
    assert not (nexus.data_dir / "logs").exists()


def test_two_run_side_by_side_but_not_in_one_data_directory(start: Start) -> None:
    one, other = start("one"), start("other")
    one.until_ready()
    other.until_ready()
    assert one.get(one.told("Execution"))[0] == other.get(other.told("Execution"))[0] == 200
    assert one.get(other.told("Execution").removeprefix(f"http://127.0.0.1:{other.port}"))[0] == 404

    intruder = start("one")
    intruder.make.wait(READY_SECONDS)
    assert f"pid {one.up_pid()}" in intruder.output
    assert "set NEXUS_DATA_DIR and NEXUS_PORT" in intruder.output
    assert one.get(one.told("Execution"))[0] == 200


def test_reading_needs_a_login_when_other_machines_can_reach_it(start: Start) -> None:
    nexus = start(NEXUS_HOST="0.0.0.0", NEXUS_OPEN_READING="1")  # noqa: S104
    nexus.until_ready()
    assert nexus.get(nexus.told("Execution"))[0] == 401
    assert "reading needs a login" in nexus.told("Access")


def test_python_that_is_too_old_is_told_with_what_was_found(checkout: Path, tmp_path: Path) -> None:
    old = tmp_path / "bin" / "python3"
    old.parent.mkdir()
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    old.chmod(0o755)
    (tmp_path / "Makefile").write_text((checkout / "Makefile").read_text())
    (tmp_path / "bin" / "python3.11").symlink_to(old)
    done = subprocess.run(
        ["make", "run"],
        cwd=tmp_path,
        env={"PATH": f"{old.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Nexus needs Python 3.11 or newer" in done.stderr
    assert "Found: Python 3.9.2" in done.stderr
    assert not (tmp_path / ".venv").exists()
