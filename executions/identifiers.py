"""Execution ids and event ids: their form, order and parsing. Pure."""

import re
from typing import Final, NamedTuple, Self, TypeGuard

EXECUTION_ID_FORM: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
EVENT_ID_FORM: Final = "<milliseconds>-<sequence>"

_EXECUTION_ID = re.compile(EXECUTION_ID_FORM)
_EVENT_ID = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})")


class MalformedEventIdError(ValueError):
    """The text is no event id; the message says what one looks like."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is not an event id: it has the form {EVENT_ID_FORM}")


class EventId(NamedTuple):
    """Where an event stands in its execution's history; ordered, and a Valkey stream id.

    `milliseconds` since the Unix epoch never go back within an execution, `sequence`
    counts 0, 1, 2 … without a gap: two ids tell by themselves whether an event lies
    between them.
    """

    milliseconds: int
    sequence: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<milliseconds>-<sequence>`; raises MalformedEventIdError."""
        match = _EVENT_ID.fullmatch(text)
        if match is None:
            raise MalformedEventIdError(text)
        return cls(int(match[1]), int(match[2]))

    def contradicts(self, other: "EventId") -> bool:
        """Whether the two cannot both be ids of one execution's events.

        Within an execution neither part goes back while the other goes on, and a sequence
        is given once.
        """
        if self.sequence == other.sequence:
            return self.milliseconds != other.milliseconds
        later, earlier = (self, other) if self.sequence > other.sequence else (other, self)
        return later.milliseconds < earlier.milliseconds

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.sequence}"


def is_execution_id(value: object) -> TypeGuard[str]:
    """Whether the value is a text of an execution id's form."""
    return isinstance(value, str) and _EXECUTION_ID.fullmatch(value) is not None
