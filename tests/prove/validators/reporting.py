"""Verdicts as people read them: a table, then what was wrong, as much as fits a screen or two."""

from collections.abc import Sequence
from typing import Final

from tests.prove.validators.verdicts import PromiseVerdict, Violation

VIOLATIONS_SHOWN: Final = 5
LINES_SHOWN: Final = 12
CHARACTERS_SHOWN: Final = 300


def report(verdicts: Sequence[PromiseVerdict]) -> str:
    """The verdicts' table, then the first violations of each, each with its history."""
    lines: list[str] = []
    for verdict in verdicts:
        counts = ", ".join(f"{number} {kind}" for kind, number in verdict.covered.items())
        lines.append(f"{verdict.promise}  {verdict.title:<15}{_outcome(verdict):<14}{counts}")
        if verdict.figures:
            figures = (f"{name} {figure:.3g}" for name, figure in verdict.figures.items())
            lines.append(" " * 33 + ", ".join(figures))
    for verdict in verdicts:
        lines += _wrongs(verdict)
    return "\n".join(lines)


def _outcome(verdict: PromiseVerdict) -> str:
    if verdict.violations:
        return f"BROKEN {len(verdict.violations)}"
    return "NOT COVERED" if verdict.uncovered else "held"


def _wrongs(verdict: PromiseVerdict) -> list[str]:
    lines: list[str] = []
    if verdict.uncovered:
        lines += ["", f"{verdict.promise}: nothing was judged of: {', '.join(verdict.uncovered)}"]
    for violation in verdict.violations[:VIOLATIONS_SHOWN]:
        lines += ["", f"{verdict.promise}: {_shortened(violation.what)}", *_history(violation)]
    left = len(verdict.violations) - VIOLATIONS_SHOWN
    if left > 0:
        lines += ["", f"{verdict.promise}: … and {left} more"]
    return lines


def _history(violation: Violation) -> list[str]:
    lines = []
    if violation.client:
        lines.append(f"    client {violation.client}")
    if violation.connection:
        lines.append(f"    connection {violation.connection}")
    for heading, rows in (("frames", violation.frames), ("event log", violation.log)):
        if rows:
            lines.append(f"    {heading}")
            lines += [f"      {_shortened(row)}" for row in rows[:LINES_SHOWN]]
    return lines


def _shortened(text: str) -> str:
    return text if len(text) <= CHARACTERS_SHOWN else f"{text[: CHARACTERS_SHOWN - 1]}…"
