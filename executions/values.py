"""What may be stored in a field, and how it is brought into that form. Pure.

Text from workflows may hold anything; a database and JSON may not. Characters that
one of them cannot hold (NUL, lone surrogates) become U+FFFD; what is too long or of
the wrong kind is refused, except failure messages, which are cut.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from math import isfinite
from typing import Any, Final

from executions.errors import RecordingError
from executions.identifiers import EXECUTION_ID_FORM, is_execution_id

NAME_BYTES: Final = 1_000
"""Longest id, name or type, in UTF-8; Temporal's own limit."""

ERROR_MESSAGE_CHARACTERS: Final = 4_000
"""Longest failure message in the document; longer ones are cut and end in an ellipsis."""

DEFINITION_BYTES: Final = 1024 * 1024
"""Largest workflow definition, as JSON in UTF-8."""

DEPENDS_ON_ENTRIES: Final = 5_000

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class UnacceptableValueError(RecordingError):
    """A value cannot be stored; the message names the field and what is accepted."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def storable_text(text: str) -> str:
    """The text with what no database or JSON can hold replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def clean_name(field: str, value: object) -> str:
    """An id, a name or a type: text of at most NAME_BYTES."""
    if not isinstance(value, str):
        raise UnacceptableValueError(field, f"must be text, not {type(value).__name__}")
    if not value:
        raise UnacceptableValueError(field, "must not be empty")
    name = storable_text(value)
    size = len(name.encode())
    if size > NAME_BYTES:
        raise UnacceptableValueError(
            field, f"has {size} bytes in UTF-8; at most {NAME_BYTES} are accepted"
        )
    return name


def clean_moment(field: str, value: datetime | None) -> datetime | None:
    """A moment with a time zone, as UTC; None stays None."""
    if value is None:
        return None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise UnacceptableValueError(field, "must be a datetime with a time zone, or None")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise UnacceptableValueError(
            field, f"must be in the years {MINYEAR} to {MAXYEAR} of UTC"
        ) from None


def clean_error_details(field: str, value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`{"type": str | None, "message": str}` with the message cut to its limit; None stays.

    A type that says nothing ("") is none.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"type", "message"}:
        raise UnacceptableValueError(field, 'must be {"type": …, "message": …}, or None')
    kind, message = value["type"], value["message"]
    if not isinstance(message, str):
        raise UnacceptableValueError(f"{field}.message", "must be text")
    if len(message) > ERROR_MESSAGE_CHARACTERS:
        message = message[: ERROR_MESSAGE_CHARACTERS - 1] + "…"
    return {
        "type": None if kind in (None, "") else clean_name(f"{field}.type", kind),
        "message": storable_text(message),
    }


def clean_link(field: str, value: object) -> str | None:
    """Another execution's id, or None."""
    if value is None or is_execution_id(value):
        return value
    raise UnacceptableValueError(field, f"must have the form {EXECUTION_ID_FORM}, or be None")


def clean_point(field: str, value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """`{"kind", "name", "at"}` of something that happened in a run; `at` is RFC 3339 text."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"kind", "name", "at"}:
        raise UnacceptableValueError(field, "must be an object of kind, name and at, or None")
    return {
        "kind": clean_name(f"{field}.kind", value["kind"]),
        "name": None if value["name"] is None else clean_name(f"{field}.name", value["name"]),
        "at": clean_name(f"{field}.at", value["at"]),
    }


def clean_depends_on(field: str, value: Iterable[object]) -> list[str]:
    """Activity ids, each once, in the order given."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UnacceptableValueError(field, "must be a list of activity ids")
    ids = list(dict.fromkeys(clean_name(field, item) for item in value))
    if len(ids) > DEPENDS_ON_ENTRIES:
        raise UnacceptableValueError(
            field, f"has {len(ids)} entries; at most {DEPENDS_ON_ENTRIES} are accepted"
        )
    return ids


def clean_progress(field: str, value: float | None) -> float | None:
    """A share from 0 to 1, or None where nothing is known."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise UnacceptableValueError(field, "must be a number from 0 to 1")
    return abs(float(value))  # SQLite gives -0.0 back as 0.0


def clean_attempt(field: str, value: int) -> int:
    """The number of the try an activity is at, counted from 1."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
        raise UnacceptableValueError(field, f"must be a whole number from 1 to {2**31 - 1}")
    return value


def storable_json(value: Any) -> Any:
    """JSON data with every text in it made storable; raises TypeError or ValueError."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, Mapping):
        return {_storable_key(key): storable_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable_json(item) for item in value]
    if value is not None and not isinstance(value, bool | int | float):
        raise TypeError(f"JSON has no {type(value).__name__}")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"JSON has no {value}")
    return value


def _storable_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key is text in JSON, not {type(key).__name__}")
    return storable_text(key)
