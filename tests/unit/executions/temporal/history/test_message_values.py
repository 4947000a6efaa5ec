"""Values of Temporal's messages, odd ones among them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import TimeoutType

from executions.temporal.history.message_values import (
    EARLIEST,
    LATEST,
    json_of,
    moment_of,
    seconds_of,
    words_of,
)
from executions.temporal.history.names import linked, named


@pytest.mark.parametrize(
    ("timestamp", "moment"),
    [
        (Timestamp(seconds=1, nanos=2_000), datetime(1970, 1, 1, 0, 0, 1, 2, tzinfo=UTC)),
        (Timestamp(seconds=2**62), LATEST),
        (Timestamp(seconds=-(2**62)), EARLIEST),
    ],
)
def test_moment_is_utc_or_the_nearest_there_is(timestamp: Timestamp, moment: datetime) -> None:
    assert moment_of(timestamp) == moment


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [(Duration(), 0), (Duration(seconds=3), 3), (Duration(seconds=1, nanos=500_000_000), 1.5)],
)
def test_seconds_are_whole_where_they_are(duration: Duration, seconds: float) -> None:
    assert seconds_of(duration) == seconds
    assert type(seconds_of(duration)) is type(seconds)


@pytest.mark.parametrize(
    ("encoding", "data", "value"),
    [
        (b"json/plain", b'{"a": [1]}', {"a": [1]}),
        (b"json/protobuf", b"{}", {}),
        (b"json/plain", b"{", None),
        (b"json/plain", b"\xff", None),
        (b"json/plain", b"NaN", None),
        (b"json/plain", b"[" * 100_000, None),
        (b"binary/plain", b"{}", None),
    ],
)
def test_only_json_has_a_value(encoding: bytes, data: bytes, value: Any) -> None:
    assert json_of(Payload(metadata={"encoding": encoding}, data=data)) == value


def test_payload_without_an_encoding_has_no_value() -> None:
    assert json_of(Payload(data=b"{}")) is None


@pytest.mark.parametrize(
    ("value", "words"), [(0, "unspecified"), (1, "start to close"), (99, "99")]
)
def test_enumeration_is_told_in_words(value: int, words: str) -> None:
    assert words_of(TimeoutType, value) == words


def test_empty_name_has_a_stand_in() -> None:
    assert named("") == "(unnamed)"
    assert named("a\x00") == "a\ufffd"


def test_only_an_executions_id_links() -> None:
    assert linked("01a20c59-5040-743e-8b96-23980153f36c") is not None
    assert linked("") is None
    assert linked("no id") is None
