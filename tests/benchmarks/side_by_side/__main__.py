"""All parts of the comparison, one after another: `make bench`.

`python -m tests.benchmarks.side_by_side [--list] [--output FILE] [PART ...]` runs each part as a
process of its own and writes their tables, with the machine's description, as Markdown. A part
that fails does not stop the others. Exits 1 where one failed; a goal that is not reached is told.
"""

import argparse
import datetime
import pydoc
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Final

from tests.benchmarks.side_by_side import machine
from tests.benchmarks.side_by_side.part import LIMIT_SECONDS, Report
from tests.benchmarks.side_by_side.results import COLUMNS, markdown, summary
from tests.benchmarks.tables import show
from tests.servers import end_with_parent

PARTS: Final = (
    "fan_out",
    "latency",
    "many_executions",
    "web_processes",
    "idle_connections",
    "herd",
    "large_execution",
    "recording",
    "replay",
)
RESULTS: Final = Path("var", "bench")
ENDING_SECONDS: Final = 30
"""For a part that is past its limit to end its servers, before it is killed."""


def main() -> int:
    asked = _arguments()
    if asked.list:
        for part in PARTS:
            purpose = pydoc.synopsis(str(Path(__file__).with_name(f"{part}.py"))) or ""
            show(textwrap.fill(f"{part:<17} {purpose}", COLUMNS, subsequent_indent=" " * 18))
        return 0
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parts = [part for part in PARTS if part in asked.parts] if asked.parts else PARTS
    description = machine.described()
    output = asked.output or RESULTS / f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H%MZ}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    reports: dict[str, Report | None] = {}
    began = time.monotonic()
    for number, part in enumerate(parts, 1):
        show(f"[{number}/{len(parts)}] {part}")
        part_began = time.monotonic()
        reports[part] = _report_of(part)
        ending = "took" if reports[part] else "FAILED after"
        show(f"[{number}/{len(parts)}] {part} {ending} {time.monotonic() - part_began:.0f} s\n")
        # Written after each part: what was measured survives an interruption.
        output.write_text(markdown(description, reports))
    show(summary(reports))
    show(f"\n{time.monotonic() - began:.0f} s in all. The tables are in {output}")
    return 0 if all(reports.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.side_by_side",
                                     description=(__doc__ or "").splitlines()[0])  # fmt: skip
    parser.add_argument("parts", nargs="*", metavar="PART", help="by default all; see --list")
    parser.add_argument("--list", action="store_true", help="name the parts, and run none")
    parser.add_argument("--output", type=Path, metavar="FILE",
                        help=f"default: {RESULTS}/<UTC time>.md")  # fmt: skip
    asked = parser.parse_args()
    if unknown := [part for part in asked.parts if part not in PARTS]:
        parser.error(f"no part is named {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    return asked


def _report_of(part: str) -> Report | None:
    """Run the part; None where it failed, which it has told on standard error."""
    with tempfile.TemporaryDirectory(prefix="nexus-bench-report-") as directory:
        file = Path(directory) / "report.json"
        process = subprocess.Popen(
            [sys.executable, "-m", f"tests.benchmarks.side_by_side.{part}", "--report", file],
            cwd=machine.CHECKOUT, preexec_fn=end_with_parent,
        )  # fmt: skip
        try:
            failed = process.wait(LIMIT_SECONDS + ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            failed = True
        finally:
            process.kill()
            process.wait()
        return None if failed or not file.exists() else Report.decode(file.read_text())


if __name__ == "__main__":
    sys.exit(main())
