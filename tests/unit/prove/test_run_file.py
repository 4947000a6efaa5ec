"""The run file, and the beginning that its processes wait for together."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.prove.plan import Topology, plan_for
from tests.prove.run_file import (
    RunFile,
    begin_together,
    read_run_file,
    wait_to_begin,
    write_run_file,
)


def test_run_file_is_read_as_it_was_written_with_the_plan_of_its_seed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    records, cookies = tmp_path / "records", {"viewer-0": "cookie"}
    run = RunFile(7, 24.0, records, [8001, 8002], cookies, Topology.CLUSTER, 8000)
    write_run_file(path, run)
    assert read_run_file(path) == (run, plan_for(7, 24.0, Topology.CLUSTER))


def test_nobody_begins_before_all_are_ready_and_who_comes_later_begins_at_once(
    tmp_path: Path,
) -> None:
    path = tmp_path / "run.json"
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(wait_to_begin, path, "first")
        leader = threads.submit(begin_together, path, ["first", "second"])
        assert not leader.done()
        second = threads.submit(wait_to_begin, path, "second")
        began_at = leader.result(20)
        assert first.result(20) == second.result(20) == began_at
    assert time.monotonic() >= began_at
    assert wait_to_begin(path, "restarted") == began_at
