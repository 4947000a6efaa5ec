"""Values within Temporal's messages as Python's own; odd ones never raise. Pure."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)


def moment_of(timestamp: Timestamp) -> datetime:
    """The moment in UTC; the nearest there is where it lies beyond what a datetime holds."""
    try:
        return timestamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return EARLIEST if timestamp.seconds < 0 else LATEST


def seconds_of(duration: Duration) -> float:
    """Seconds, a whole number where they are whole."""
    if duration.nanos == 0:
        return duration.seconds
    return duration.seconds + duration.nanos / 1e9


def json_of(payload: Payload) -> Any:
    """The JSON value of a payload that is encoded as JSON; None for any other."""
    if not payload.metadata["encoding"].startswith(b"json/"):
        return None
    try:
        return json.loads(payload.data, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def words_of(enumeration: Any, value: int) -> str:
    """A value of one of Temporal's enumerations in words: `…_CAUSE_NOT_FOUND` is "not found"."""
    prefix = enumeration.Name(0).removesuffix("UNSPECIFIED")
    try:
        name: str = enumeration.Name(value)
    except ValueError:
        return str(value)
    return name.removeprefix(prefix).replace("_", " ").lower()


def _refused(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")
