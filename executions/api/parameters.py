"""Reading query parameters: nothing is guessed at, and nothing unknown is passed over."""

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Final

from django.http import QueryDict

from executions.api.errors import BadParametersError

MOMENT_FORM: Final = (
    "must be an RFC 3339 moment such as 2026-01-02T03:04:05Z (the + of an offset is written %2B)"
)

_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", flags=re.ASCII
)


def check_parameters(
    query: QueryDict, *, once: Collection[str], repeatable: Collection[str] = ()
) -> None:
    """Raise BadParametersError for names that are not accepted, and for values no parameter has."""
    accepted = [*once, *repeatable]
    problems: dict[str, list[str]] = {}
    for name, values in query.lists():
        if name not in accepted:
            told = f"is not known here; accepted are {', '.join(sorted(accepted))}"
        elif name in once and len(values) > 1:
            told = "may be given once only"
        elif any("\0" in value for value in values):
            told = "must not contain NUL"
        elif not all(values):
            told = "must not be empty"
        else:
            continue
        problems[_shown(name)] = [told]
    if problems:
        raise BadParametersError(problems)


def listed(values: Iterable[str]) -> list[str]:
    """The members of a parameter that is repeated, or comma-separated, or both."""
    return [member for value in values for member in value.split(",")]


def unacceptable(members: Iterable[str], accepted: Collection[str]) -> str | None:
    """What to say of the first member that is not accepted; None if all are."""
    for member in members:
        if member not in accepted:
            return f"{_shown(member)!r} is not accepted; accepted are {', '.join(accepted)}"
    return None


def parse_moment(text: str) -> datetime:
    """An RFC 3339 date-time, as UTC; raises ValueError."""
    if _MOMENT.fullmatch(text) is None:
        raise ValueError(MOMENT_FORM)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(MOMENT_FORM) from None


def _shown(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
