"""Children are watched together, stopped in reverse, and their end is not mistaken for a wish."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from nexus_project.embedded.lock import AlreadyRunningError
from nexus_project.embedded.processes import Child, ChildEndedError, Program
from nexus_project.embedded.supervisor import Supervisor, supervising

WAIT = "import time; time.sleep(100)"


def python(name: str, source: str = WAIT) -> Program:
    return Program(name, [sys.executable, "-c", source])


def test_children_stop_in_reverse_order_and_the_directory_is_free_again(tmp_path: Path) -> None:
    said: list[str] = []
    with supervising(tmp_path, "test", said.append) as supervisor:
        for name in ("one", "two", "three"):
            supervisor.start(python(name))
    assert [line.split() for line in said if "stopped" in line] == [
        ["three", "stopped"],
        ["two", "stopped"],
        ["one", "stopped"],
    ]
    with supervising(tmp_path, "test", said.append):
        pass


def test_requested_stop_is_no_failure(tmp_path: Path) -> None:
    with supervising(tmp_path, "test", lambda line: None) as supervisor:
        child = supervisor.start(python("one"))
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
        supervisor.watch()
    assert child.ending() == "killed by SIGTERM"


def test_end_of_a_child_stops_the_others_and_is_a_failure(tmp_path: Path) -> None:
    def run() -> None:
        with supervising(tmp_path, "test", lambda line: None) as supervisor:
            others.append(supervisor.start(python("one")))
            supervisor.start(python("two", "raise SystemExit('gone')"))
            supervisor.watch()

    others: list[Child] = []
    with pytest.raises(ChildEndedError, match=r"(?s)two ended unexpectedly.*gone"):
        run()
    [other] = others
    assert not other.is_running()


def test_signal_during_a_stop_for_another_cause_neither_hides_it_nor_leaves_a_child(
    tmp_path: Path,
) -> None:
    slow = (
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: time.sleep(0.5)); "
        "print(1, flush=True); signal.pause()"
    )

    def run() -> None:
        with supervising(tmp_path, "test", lambda line: None) as supervisor:
            children.append(supervisor.start(python("one", slow)))
            children[0].wait_until(lambda: children[0].last_log_lines() != [], 10)
            threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGTERM]).start()
            raise ValueError("the cause")

    children: list[Child] = []
    with pytest.raises(ValueError, match="the cause"):
        run()
    assert not children[0].is_running()


def test_dismissed_child_is_stopped_and_not_missed(tmp_path: Path) -> None:
    with supervising(tmp_path, "test", lambda line: None) as supervisor:
        dismissed, kept = supervisor.start(python("one")), supervisor.start(python("two"))
        supervisor.dismiss(dismissed)
        supervisor.require_all_running()
        assert not dismissed.is_running()
        assert kept.is_running()


def test_ended_child_that_is_expected_to_end_is_passed_over(tmp_path: Path) -> None:
    with supervising(tmp_path, "test", lambda line: None) as supervisor:
        ended = supervisor.start(python("one", "pass"))
        ended.wait_until(lambda: not ended.is_running(), 10)
        supervisor.require_all_running(but=ended)
        with pytest.raises(ChildEndedError):
            supervisor.require_all_running()


def test_second_supervisor_of_a_directory_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    with supervising(tmp_path, "test", lambda line: None) as supervisor:
        child = supervisor.start(python("one"))
        with pytest.raises(AlreadyRunningError), supervising(tmp_path, "test", lambda line: None):
            pass
        assert child.is_running()


def test_impatience_kills_all_children_at_once(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True);"
    with supervising(tmp_path, "test", lambda line: None) as supervisor:
        children = [supervisor.start(python(name, stubborn + WAIT)) for name in ("one", "two")]
        for child in children:
            child.wait_until(lambda child=child: child.last_log_lines() != [], 10)  # type: ignore[misc]
        supervisor.kill_all()
        for child in children:
            child.wait_until(lambda child=child: not child.is_running(), 10)  # type: ignore[misc]
    assert {child.ending() for child in children} == {"killed by SIGKILL"}


def test_progress_is_told_with_its_time(tmp_path: Path) -> None:
    said: list[str] = []
    with supervising(tmp_path, "test", said.append) as supervisor:
        assert isinstance(supervisor, Supervisor)
        supervisor.told_progress("valkey", "ready")
    assert said[0] == "  valkey     ready after 0.0 s"
