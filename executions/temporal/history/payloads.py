"""Payloads as people can read them: *shown payloads*, JSON of bounded size. Pure.

Encodings are those of Temporal's data converters (https://docs.temporal.io/dataconversion).
What a codec or a converter of the user's own must undo first is not done here.
"""

import json
from base64 import b64encode
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

from temporalio.api.common.v1 import Payload

from executions.temporal.history.names import fitted
from executions.values import storable_json, storable_text

PAYLOAD_BYTES: Final = 16 * 1024
"""Data of one payload that is shown; of more, the beginning."""

PAYLOADS_BYTES: Final = 64 * 1024
"""Data of one list of payloads that is shown."""

PAYLOADS_SHOWN: Final = 50
"""Payloads of one list that are shown."""

NESTING: Final = 100
"""Levels of a JSON value; readers of the database give up at some hundreds."""

DIGITS: Final = 1_000
"""Digits of a whole number; Python reads and writes a few thousand at most."""

_NULL: Final = "binary/null"
_BINARY: Final = "binary/plain"
_PROTOBUF: Final = "binary/protobuf"
_JSON_ENCODINGS: Final = frozenset({"json/plain", "json/protobuf"})
_ENCODINGS: Final = _JSON_ENCODINGS | {_NULL, _BINARY, _PROTOBUF}


def is_showable(payload: Payload) -> bool:
    """Whether the payload's encoding is one that is shown as it is."""
    return _metadata(payload, "encoding") in _ENCODINGS


def shown_payloads(payloads: Iterable[Payload]) -> list[dict[str, Any]]:
    """The payloads as JSON that every database can hold; never raises.

    Each is `{"encoding", "size_bytes", "value", "is_cut", "problem"}`. `value` is the JSON
    value; base64 text where the data is binary; the text of the beginning, with `is_cut`,
    where there is too much. What cannot be shown so has a `problem`, a sentence: its value
    is null, or the text of JSON that cannot be held as a value. Payloads beyond the limits
    of a list are counted by a last entry with an empty encoding.
    """
    shown: list[dict[str, Any]] = []
    left_bytes = PAYLOADS_BYTES
    waiting = iter(payloads)
    for payload in waiting:
        entry = _shown(payload)
        cost = 0 if entry["value"] is None else min(len(payload.data), PAYLOAD_BYTES)
        if len(shown) == PAYLOADS_SHOWN or cost > left_bytes:
            return [*shown, _left_out([payload, *waiting])]
        shown.append(entry)
        left_bytes -= cost
    return shown


def _shown(payload: Payload) -> dict[str, Any]:
    encoding = _metadata(payload, "encoding")
    data = payload.data[:PAYLOAD_BYTES]
    is_cut = len(data) < len(payload.data)
    value: Any = None
    problem = None
    if encoding in _JSON_ENCODINGS:
        if is_cut:
            value = _text(data)
        else:
            value, problem = _json(data)
    elif encoding in (_BINARY, _PROTOBUF):
        value = b64encode(data).decode()
        if encoding == _PROTOBUF:
            kind = _metadata(payload, "messageType") or "unknown"
            problem = f"A protobuf message of type '{kind}', shown as base64"
    elif encoding == _NULL:
        is_cut = False
    else:
        is_cut = False
        named = f"Encoded as '{encoding}', which" if encoding else "It names no encoding, so"
        problem = f"{named} cannot be decoded here: configure the data converter on the client"
    return _entry(encoding, len(payload.data), value, is_cut, problem)


def _entry(
    encoding: str, size_bytes: int, value: Any, is_cut: bool, problem: str | None
) -> dict[str, Any]:
    return {
        "encoding": encoding,
        "size_bytes": size_bytes,
        "value": value,
        "is_cut": is_cut,
        "problem": problem,
    }


def _left_out(payloads: list[Payload]) -> dict[str, Any]:
    size_bytes = sum(len(payload.data) for payload in payloads)
    problem = (
        f"{len(payloads)} more are left out: at most {PAYLOADS_SHOWN} payloads"
        f" and {PAYLOADS_BYTES // 1024} KiB are shown"
    )
    return _entry("", size_bytes, None, True, problem)


def _json(data: bytes) -> tuple[Any, str | None]:
    """The value, and what is wrong with it."""
    try:
        value = json.loads(data.decode(), parse_constant=_refused, parse_int=_integer)
        _check_nesting(value)
        return storable_json(value), None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        return None, f"Not JSON, though it is encoded as JSON: {error}"
    except RecursionError:
        return _text(data), f"Shown as text: it has more than {NESTING} levels"
    except ValueError as error:
        return _text(data), f"Shown as text: {error}"


def _refused(constant: str) -> Any:
    raise ValueError(f"JSON has no {constant}")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"it has a number of more than {DIGITS} digits")
    return int(digits)


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(NESTING + 1):
        lists = [item for item in level if isinstance(item, list)]
        objects = [item.values() for item in level if isinstance(item, dict)]
        level = [*chain(*lists, *objects)]
        if not level:
            return
    raise RecursionError


def _text(data: bytes) -> str:
    # Where data is cut, the last character may be in pieces.
    return storable_text(data.decode(errors="ignore"))


def _metadata(payload: Payload, key: str) -> str:
    return fitted(payload.metadata[key].decode(errors="replace")) if key in payload.metadata else ""
