"""`make prove` in its short form, small and at scale: every fault once, and every promise holds."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prove.plan import FAULTS, Topology
from tests.servers.caddy import WEB_HEADER
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

MINUTES = "0.42"
AT_SCALE = ("--valkey", "cluster", "--database", "postgresql", "--web-processes", "2")
READY = re.compile(r"(?<=Nexus is ready at )\S+")
STARTING_SECONDS = 120.0
ENDING_SECONDS = 30.0


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For sockets, whose paths have to be short; what a killed run leaves goes with it."""
    with tempfile.TemporaryDirectory(prefix="nexus-") as name:
        # PostgreSQL runs as another user where this one is root, and is to reach its folder.
        Path(name).chmod(0o711)
        yield Path(name)


@contextmanager
def proving(directory: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not is_for_tests(name)}
    command = [sys.executable, "-m", "tests.prove", "--seed", "4", "--minutes", MINUTES]
    with subprocess.Popen(
        [*command, "--keep", directory / "records", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment | {"TMPDIR": str(directory)},
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def is_for_tests(name: str) -> bool:
    """What tests.settings has put in this process' environment."""
    return name.startswith(("NEXUS_", "DJANGO_")) or name in ("DATABASE_URL", "VALKEY_URL")


@pytest.mark.parametrize(
    ("topology", "arguments"),
    [(Topology.SINGLE, ()), (Topology.CLUSTER, AT_SCALE)],
    ids=["small", "at-scale"],
)
def test_every_promise_holds_under_every_fault(
    short_directory: Path, topology: Topology, arguments: tuple[str, ...]
) -> None:
    with proving(short_directory, *arguments) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        assert process.wait() == 0, told
    assert "Every promise held." in told
    for kind in FAULTS[topology]:
        assert kind.value in told


def test_killed_run_leaves_no_process(short_directory: Path) -> None:
    with proving(short_directory) as process:
        # Valkey, three web processes, three writers, two processes of clients.
        wait_until(lambda: len(descendants(process.pid)) >= 9, STARTING_SECONDS)
        started = descendants(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(is_running(each) for each in started), ENDING_SECONDS)


def test_idle_stage_at_scale_serves_until_it_is_interrupted(short_directory: Path) -> None:
    with proving(short_directory, *AT_SCALE, "--web-processes", "1", "--idle") as process:
        assert process.stdout is not None
        told = ""
        while not (ready := READY.search(told)):
            line = process.stdout.readline()
            assert line, told
            told += line
        with urllib.request.urlopen(ready[0], timeout=ENDING_SECONDS) as answer:  # noqa: S310
            assert answer.headers[WEB_HEADER]
        started = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(ENDING_SECONDS)
        assert not any(is_running(each) for each in started)


def descendants(process_id: int) -> list[int]:
    """The processes that it has started, and those that these have."""
    found = [process_id]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found[1:]


def is_running(process_id: int) -> bool:
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
