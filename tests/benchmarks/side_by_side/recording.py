"""Recording: changes a second through the one write path, against plain saves of the same rows.

`python -m tests.benchmarks.side_by_side.recording [--rounds N] [--changes N]`
"""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

from tests.benchmarks.side_by_side.part import Goal, Report, run_part
from tests.benchmarks.side_by_side.recording_writer import Way, Writer, writing
from tests.benchmarks.stage import Stage, at_most
from tests.benchmarks.tables import show

WRITERS_AT_ONCE: Final = (1, 2)


def changes_a_second(writers: Sequence[Writer], rounds: int, changes: int) -> dict[Way, float]:
    """All writers write so many changes in each way, in turns: the rate of the median round."""
    seconds: dict[Way, list[float]] = {way: [] for way in Way}
    for _ in range(rounds):
        for way, taken in seconds.items():
            for writer in writers:
                writer.begin(way, changes)
            taken.append(max([writer.seconds_taken() for writer in writers]))
    return {way: changes * len(writers) / median(taken) for way, taken in seconds.items()}


def measure(stage: Stage, arguments: argparse.Namespace) -> Report:
    rows, goals = [], []
    for at_once in WRITERS_AT_ONCE:
        with ExitStack() as stack:
            writers = [stack.enter_context(writing()) for _ in range(at_once)]
            changes_a_second(writers, 1, arguments.changes)
            rates = changes_a_second(writers, arguments.rounds, arguments.changes)
        name = "one writer" if at_once == 1 else f"{at_once} writers at once"
        plain = rates[Way.PLAIN]
        rows += [
            [
                f"{name}: {way}",
                f"{rate:,.0f}",
                f"{1000 * at_once / rate:.2f}",
                f"{rate / plain:.2f}",
            ]
            for way, rate in rates.items()
        ]
        goals.append(Goal(f"{name}: Nexus / plain", rates[Way.NEXUS] / plain, 0.5, at_least=True))
        show(f"  {rows[-1]}")
    return Report(
        "Recording: one activity changes, PostgreSQL",
        ["", "changes/s", "ms each", "x plain"],
        rows,
        goals,
        [
            "A plain save has its rows in memory: it reads and locks nothing, and makes no event:",
            "the text it saves is ready. Nexus' changes are published before the writer goes on: a",
            "round trip to Valkey is part of each. PostgreSQL does not wait for its disk here,",
            "which would cost every way the same.",
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=at_most(100), default=5)
    parser.add_argument("--changes", type=at_most(10_000), default=200)
    run_part(measure, parser, on_postgresql=True)


if __name__ == "__main__":
    main()
