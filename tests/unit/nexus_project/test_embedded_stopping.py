"""What a signal and the end of the starter do."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nexus_project.embedded.stopping import STOP_SIGNALS, StopRequested, StopRequests

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that stopping sees: the last of these."""
    times = [100.0]
    monkeypatch.setattr("nexus_project.embedded.stopping.time.monotonic", lambda: times[-1])
    return times


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_first_signal_raises_and_what_was_before_comes_back(number: signal.Signals) -> None:
    # What nohup has had ignored stays ignored.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(StopRequested), StopRequests(lambda: None):
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_same_request_delivered_twice_is_one_and_a_second_later_it_hurries(
    clock: list[float],
) -> None:
    hurried: list[str] = []
    with StopRequests(lambda: hurried.append("hurry")):
        with pytest.raises(StopRequested):
            signal.raise_signal(signal.SIGINT)
        clock.append(100.9)
        signal.raise_signal(signal.SIGTERM)
        assert hurried == []
        clock.append(101.1)
        signal.raise_signal(signal.SIGINT)
        assert hurried == ["hurry"]


def test_signal_during_a_stop_for_another_cause_does_not_raise(clock: list[float]) -> None:
    hurried: list[str] = []
    with StopRequests(lambda: hurried.append("hurry")) as requests:
        requests.stopping()
        clock.append(110.0)
        signal.raise_signal(signal.SIGINT)
    assert hurried == ["hurry"]


def test_hang_up_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests(lambda: None):
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


WATCHING = """
import signal, subprocess, sys
watching = subprocess.Popen([sys.executable, "-c", '''
import signal, sys
from nexus_project.embedded.stopping import stop_when_parent_exits
def leave(number, frame):
    print("told", flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, leave)
stop_when_parent_exits(PARENT)
print("watching", flush=True)
while True:
    signal.pause()
'''], stdout=sys.stdout)
signal.pause()
"""


@pytest.mark.parametrize("parent", ["", "__import__('os').getppid()"])
def test_end_of_the_parent_by_kill_9_is_a_sigterm(parent: str) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", WATCHING.replace("PARENT", parent)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "watching\n"
    starter.kill()
    starter.wait()
    assert starter.stdout.readline() == "told\n"
    starter.stdout.close()


def test_parent_that_ended_before_the_watch_began_is_a_sigterm_at_once() -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    source = (
        "import signal; from nexus_project.embedded.stopping import stop_when_parent_exits\n"
        f"stop_when_parent_exits({gone.pid})\n"
        "while True: signal.pause()"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=PROJECT, timeout=20, check=False)
    assert done.returncode == -signal.SIGTERM
