"""`make prove` in its short form: one fault of each kind, and every promise holds."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.prove.records import FaultKind
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

MINUTES = "0.42"
STARTING_SECONDS = 120.0
ENDING_SECONDS = 30.0


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """For sockets, whose paths have to be short; what a killed run leaves goes with it."""
    with tempfile.TemporaryDirectory(prefix="nexus-") as name:
        yield Path(name)


@contextmanager
def proving(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {name: value for name, value in os.environ.items() if not is_for_tests(name)}
    command = [sys.executable, "-m", "tests.prove", "--seed", "4", "--minutes", MINUTES]
    with subprocess.Popen(
        [*command, "--keep", directory / "records"],
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


def test_every_promise_holds_under_every_fault(short_directory: Path) -> None:
    with proving(short_directory) as process:
        assert process.stdout is not None
        told = process.stdout.read()
        assert process.wait() == 0, told
    assert "Every promise held." in told
    for kind in FaultKind:
        assert kind.value in told


def test_killed_run_leaves_no_process(short_directory: Path) -> None:
    with proving(short_directory) as process:
        # Valkey, three web processes, three writers, two processes of clients.
        wait_until(lambda: len(descendants(process.pid)) >= 9, STARTING_SECONDS)
        started = descendants(process.pid)
        process.kill()
        process.wait()
        wait_until(lambda: not any(is_running(each) for each in started), ENDING_SECONDS)


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
