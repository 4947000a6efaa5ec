"""The comparison side by side, as a user starts it: small, but with everything that is real."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.benchmarks.side_by_side.part import Report

pytestmark = pytest.mark.acceptance

DEADLINE_SECONDS = 100


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: Sequence[str | Path] = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)


def test_part_that_is_asked_for_writes_its_table_beside_the_machines_description(
    tmp_path: Path,
) -> None:
    tables = tmp_path / "tables.md"
    ran = run("tests.benchmarks.side_by_side", "large_execution", "--output", tables)
    assert ran.returncode == 0, ran.stderr
    written = tables.read_text()
    for told in ("| processor |", "| Valkey |", "| 5,000 activities |", "bytes of its event"):
        assert told in written
    assert f"The tables are in {tables}" in ran.stdout


def test_fan_out_measures_nexus_beside_the_floor_and_what_one_would_write_first(
    tmp_path: Path,
) -> None:
    file = tmp_path / "report.json"
    load = ("--viewers", "20", "--messages", "5", "--per-second", "20")
    ran = run("tests.benchmarks.side_by_side.fan_out", *load, "--report", file)
    assert ran.returncode == 0, ran.stderr
    report = Report.decode(file.read_text())
    ways = [row[0] for row in report.rows]
    assert ways[:4] == [
        "bare application",
        "Nexus",
        "consumer with an XREAD of its own",
        "consumer on channel-layer groups",
    ]
    assert all(goal.figure > 0 for goal in report.goals)
