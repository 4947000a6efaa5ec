"""What every part of the comparison hands in: a table of figures, and which goals they reach."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.stage import Stage, stage_set
from tests.benchmarks.tables import show, table

LIMIT_SECONDS: Final = 300
"""After so long a part is ended, and has failed."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure and its bound: at least, or at most, `bound`."""

    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    def __str__(self) -> str:
        asked = f"{'at least' if self.at_least else 'at most'} {self.bound:g}"
        verdict = "reached" if self.is_reached else "NOT REACHED"
        return f"{self.what}: {self.figure:.3g} ({asked}): {verdict}"


@dataclass(frozen=True, slots=True)
class Report:
    """One part's result. `notes` say what a reader needs to judge the figures."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = field(default=())

    def __str__(self) -> str:
        lines = [self.title, "", table(self.headings, self.rows), ""]
        return "\n".join([*lines, *map(str, self.goals), *self.notes])

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Report":
        fields = json.loads(text)
        return cls(**{**fields, "goals": [Goal(**goal) for goal in fields["goals"]]})


def run_part(
    measure: Callable[[Stage, Any], Report],
    parser: argparse.ArgumentParser,
    *,
    on_postgresql: bool = False,
    limit_seconds: int = LIMIT_SECONDS,
) -> None:
    """Run `measure` on servers of its own and show its report: the `main` of a part.

    `parser` has the part's own arguments, with defaults that `make bench` runs with;
    `--report FILE` writes the report there too, for the one who puts all parts together.
    """
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with stage_set(limit_seconds, with_temporal=False, on_postgresql=on_postgresql) as stage:
        report = measure(stage, arguments)
    if arguments.report is not None:
        arguments.report.write_text(report.encode())
    show(f"\n{report}\n")
