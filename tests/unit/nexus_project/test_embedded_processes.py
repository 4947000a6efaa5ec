"""Child processes: that they end with their starter, in order, and say why they ended."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from nexus_project.embedded import processes
from nexus_project.embedded.processes import (
    TETHER,
    Child,
    ChildEndedError,
    ChildNotReadyError,
    Program,
    Tether,
    default_tether,
)
from nexus_project.embedded.stopping import STOP_SIGNALS

PROJECT = Path(__file__).parents[3]
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
POLITE = """
import signal, sys
def leave(number, frame):
    print("asked to leave", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("here", flush=True)
signal.pause()
"""

TETHERS = ["kernel", "pipe"] if sys.platform == "linux" else ["pipe"]
Start = Callable[..., Child]


@pytest.fixture(params=TETHERS)
def tether(request: pytest.FixtureRequest) -> Tether:
    kind: Tether = request.param
    return kind


@pytest.fixture
def start(tmp_path: Path, tether: Tether) -> Iterator[Start]:
    """Starts a Python program as a child."""
    children: list[Child] = []

    def start_one(source: str, **options: object) -> Child:
        program = Program("probe", [sys.executable, "-c", source], **options)  # type: ignore[arg-type]
        children.append(Child(program, tmp_path, tether=tether))
        return children[-1]

    yield start_one
    for child in children:
        child.stop(0)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come about"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(child: Child, text: str) -> None:
    child.wait_until(lambda: text in child.last_log_lines(), 10)


def test_starter_killed_with_kill_9_takes_child_and_grandchild_along(
    tmp_path: Path, tether: Tether
) -> None:
    # With the kernel's help a grandchild must see to itself; ours have none to leave.
    grandchild = "subprocess.Popen(['sleep', '100']).pid" if tether == "pipe" else "os.getpid()"
    child = (
        f"import os, pathlib, subprocess, time; pid = {grandchild}; "
        f"pathlib.Path({str(tmp_path / 'pids')!r}).write_text(f'{{os.getpid()}} {{pid}} end'); "
        "time.sleep(100)"
    )
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, time\n"
            "from nexus_project.embedded.processes import Child, Program\n"
            f"program = Program('probe', [sys.executable, '-c', {child!r}])\n"
            f"kept = Child(program, pathlib.Path({str(tmp_path)!r}), tether={tether!r})\n"
            "time.sleep(100)",
        ],
        cwd=PROJECT,
    )
    pids_path = tmp_path / "pids"
    until(lambda: pids_path.exists() and pids_path.read_text().endswith("end"))
    pids = [int(each) for each in pids_path.read_text().split()[:2]]
    assert all(map(is_alive, pids))

    starter.kill()
    starter.wait()

    until(lambda: not any(map(is_alive, pids)))


def test_starter_gone_before_the_kernel_was_asked_means_no_start(tmp_path: Path) -> None:
    stranger = str(os.getppid())
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-I", "-S", TETHER, "kernel", stranger, "/usr/bin/touch", ran], check=False
    )
    assert done.returncode == 127
    assert not ran.exists()


def test_child_has_a_session_of_its_own_so_ctrl_c_does_not_reach_it(start: Start) -> None:
    child = start(POLITE)
    wait_for(child, "here")
    assert os.getsid(child.pid) == child.pid != os.getsid(0)


def test_stop_asks_first_and_waits_for_the_end(start: Start) -> None:
    child = start(POLITE)
    wait_for(child, "here")
    child.stop()
    assert child.last_log_lines() == ["here", "asked to leave"]
    assert child.ending() == "exit status 0"


def test_stop_kills_what_does_not_leave_in_time(start: Start, tether: Tether) -> None:
    child = start(STUBBORN + "print('here', flush=True); time.sleep(100)")
    wait_for(child, "here")
    began = time.monotonic()
    child.stop(0.2)
    assert not is_alive(child.pid)
    assert 0.2 <= time.monotonic() - began < 5
    assert child.ending() == "killed by SIGKILL"


def test_stop_of_a_child_that_is_just_starting_leaves_nothing(start: Start) -> None:
    for _ in range(5):
        child = start(POLITE)
        child.stop(5)
        assert not is_alive(child.pid)


def test_signal_that_comes_before_the_program_was_started_is_passed_on_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tether = runpy.run_path(str(TETHER))
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    passed_on: list[int] = []

    class Started:
        def __init__(self, *_: object, **__: object) -> None:
            signal.raise_signal(signal.SIGTERM)

        def send_signal(self, number: int) -> None:
            passed_on.append(number)

        def wait(self) -> int:
            return -15

    monkeypatch.setattr("subprocess.Popen", Started)
    # The watching thread would kill this test's own process group.
    monkeypatch.setattr("threading.Thread", lambda **_: SimpleNamespace(start=lambda: None))
    try:
        assert tether["tethered_by_pipe"](-1, [], ["program"]) == 128 + 15
        assert passed_on == [signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_a_child_leaves_behind_when_it_ends_is_killed(start: Start) -> None:
    child = start(
        STUBBORN + "import subprocess; "
        "print(subprocess.Popen(['sleep', '100']).pid, flush=True); time.sleep(0.1)"
    )
    until(lambda: not child.is_running())
    left_behind = int(child.last_log_lines()[0])
    until(lambda: not is_alive(left_behind))


def test_early_end_is_told_with_its_status_and_the_last_lines_of_its_log(start: Start) -> None:
    child = start("print('\\n'.join(map(str, range(30)))); raise SystemExit(3)")
    with pytest.raises(ChildEndedError) as ended:
        child.wait_until(lambda: False, 10)
    told = str(ended.value)
    assert "probe ended unexpectedly (exit status 3)" in told
    assert str(child.log_path) in told
    assert "    29" in told
    assert "    9\n" not in told


def test_silent_early_end_is_told_without_the_lines_of_an_earlier_start(start: Start) -> None:
    first = start("print('of an earlier start')")
    until(lambda: not first.is_running())
    child = start("raise SystemExit(1)")
    until(lambda: not child.is_running())
    with pytest.raises(ChildEndedError, match="it wrote nothing"):
        child.require_running()


def test_child_that_is_not_ready_in_time_is_told_with_its_log(start: Start) -> None:
    child = start("import time; time.sleep(100)")
    with pytest.raises(ChildNotReadyError, match=r"not ready after 0\.1 s; see .*probe\.log"):
        child.wait_until(lambda: False, 0.1)


def test_missing_program_is_told_in_its_log(tmp_path: Path, tether: Tether) -> None:
    child = Child(Program("probe", ["/no/such/program"]), tmp_path, tether=tether)
    with pytest.raises(ChildEndedError, match="/no/such/program could not be started"):
        child.wait_until(lambda: False, 10)


def test_program_gets_its_environment_its_inherited_files_and_no_input(
    tmp_path: Path, tether: Tether
) -> None:
    handed = (tmp_path / "handed").open("w")
    source = (
        "import os, sys; print(os.environ['GIVEN'], len(sys.stdin.read())); "
        f"os.write({handed.fileno()}, b'reached')"
    )
    program = Program("probe", [sys.executable, "-c", source], {"GIVEN": "this"})
    child = Child(program, tmp_path, inherited=[handed.fileno()], tether=tether)
    until(lambda: not child.is_running())
    assert child.last_log_lines() == ["this 0"]
    assert (tmp_path / "handed").read_text() == "reached"


def test_output_goes_where_it_is_wanted_and_errors_to_the_log(start: Start, tmp_path: Path) -> None:
    source = "import sys; print('out'); print('error', file=sys.stderr)"
    child = start(source, output_path=tmp_path / "out")
    until(lambda: not child.is_running())
    assert (tmp_path / "out").read_text() == "out\n"
    assert child.last_log_lines() == ["error"]


def test_large_log_is_set_aside_at_the_next_start(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "ROTATED_LOG_BYTES", 10)
    first = start("print('more than ten bytes')")
    until(lambda: not first.is_running())
    second = start("print('short')")
    until(lambda: not second.is_running())
    assert (tmp_path / "probe.log.1").read_text() == "more than ten bytes\n"
    assert (tmp_path / "probe.log").read_text() == "short\n"
    third = start("print('short')")
    until(lambda: not third.is_running())
    assert (tmp_path / "probe.log").read_text() == "short\nshort\n"


def test_only_the_main_thread_relies_on_the_kernel() -> None:
    chosen: list[Tether] = []
    thread = threading.Thread(target=lambda: chosen.append(default_tether()))
    thread.start()
    thread.join()
    assert chosen == ["pipe"]
    assert default_tether() == ("kernel" if sys.platform == "linux" else "pipe")
