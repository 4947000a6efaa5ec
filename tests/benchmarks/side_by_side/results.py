"""The parts' reports put together, for people: a file in Markdown, a few lines for a terminal."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from tests.benchmarks.side_by_side.part import Goal, Report

COLUMNS: Final = 80


def markdown(description: Sequence[tuple[str, str]], reports: Mapping[str, Report | None]) -> str:
    """The whole result as Markdown: the machine, then each part's table, goals and notes."""
    blocks = ["# Nexus, measured side by side", _markdown_table(("measured on", ""), description)]
    for part, report in reports.items():
        if report is None:
            blocks += [f"## {part}", "This part failed."]
            continue
        blocks += [f"## {report.title}", f"`make bench BENCH_ARGS={part}`"]
        blocks.append(_markdown_table(report.headings, report.rows))
        if lines := [f"- {line}" for line in (*report.goals, *report.notes)]:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(headings) - 1)] if len(headings) > 2 else ["---", "---"]
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, rule, *rows))


def summary(reports: Mapping[str, Report | None]) -> str:
    """One line of at most 80 columns for each goal, and for each part that failed."""
    lines = []
    for part, report in reports.items():
        if report is None:
            lines.append(f"FAILED       {part}")
        else:
            lines += [_in_one_line(part, goal) for goal in report.goals]
    return "\n".join(lines)


def _in_one_line(part: str, goal: Goal) -> str:
    verdict = "reached" if goal.is_reached else "NOT REACHED"
    figure = f"{goal.figure:.3g} ({'>=' if goal.at_least else '<='} {goal.bound:g})"
    told = f"{verdict:<12} {figure:<18} "
    return told + textwrap.shorten(f"{part}: {goal.what}", COLUMNS - len(told), placeholder="…")
