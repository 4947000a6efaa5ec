"""One running Nexus per data directory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from nexus_project.embedded.lock import AlreadyRunningError, DataDirLock

PROJECT = Path(__file__).parents[3]
TAKE_AND_LEAVE_TO_A_CHILD = """
import pathlib, subprocess, sys
from nexus_project.embedded.lock import DataDirLock
lock = DataDirLock(pathlib.Path(sys.argv[1]), "manage.py up")
child = subprocess.Popen(["sleep", "100"], pass_fds=[lock.descriptor], stdout=subprocess.DEVNULL)
print(child.pid)
"""


def test_second_is_told_who_holds_the_directory_and_what_to_do(tmp_path: Path) -> None:
    first = DataDirLock(tmp_path, "manage.py up")
    with pytest.raises(AlreadyRunningError) as refused:
        DataDirLock(tmp_path, "manage.py services")
    told = str(refused.value)
    assert f"`manage.py up`, pid {os.getpid()}" in told
    assert "NEXUS_DATA_DIR" in told
    assert "NEXUS_PORT" in told
    first.release()


def test_released_directory_can_be_held_again_and_another_one_beside_it(tmp_path: Path) -> None:
    DataDirLock(tmp_path / "new", "a").release()
    first = DataDirLock(tmp_path / "new", "a")
    DataDirLock(tmp_path / "other", "b").release()
    first.release()


def test_made_directory_is_this_users_alone(tmp_path: Path) -> None:
    DataDirLock(tmp_path / "new", "a").release()
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_unreadable_holder_is_told_without_a_number(tmp_path: Path) -> None:
    first = DataDirLock(tmp_path, "a")
    (tmp_path / "running.lock").write_bytes(b"?")
    with pytest.raises(AlreadyRunningError, match="pid unknown"):
        DataDirLock(tmp_path, "b")
    first.release()


def left_to_a_child(data_dir: Path) -> int:
    """Have a process hold the directory that has ended, but not its child; the child's pid."""
    done = subprocess.run(
        [sys.executable, "-c", TAKE_AND_LEAVE_TO_A_CHILD, data_dir],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout)


def test_successor_of_a_killed_holder_waits_for_its_last_child(tmp_path: Path) -> None:
    child = left_to_a_child(tmp_path)
    threading.Timer(0.3, os.kill, [child, 9]).start()
    DataDirLock(tmp_path, "next").release()


def test_child_that_does_not_end_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nexus_project.embedded.lock.ORPHAN_SECONDS", 0.2)
    child = left_to_a_child(tmp_path)
    try:
        with pytest.raises(AlreadyRunningError):
            DataDirLock(tmp_path, "next")
    finally:
        os.kill(child, 9)
