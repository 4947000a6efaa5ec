"""Figures as people read them. Pure, but for `show`."""

from collections.abc import Sequence


def percentile(figures: Sequence[float], hundredth: int) -> float:
    """The smallest of the figures that so many hundredths of them do not exceed."""
    ordered = sorted(figures)
    return ordered[max(0, -(-len(ordered) * hundredth // 100) - 1)]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their headings: the first column to the left, figures to the right."""
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    )


def show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a benchmark's figures are its output
