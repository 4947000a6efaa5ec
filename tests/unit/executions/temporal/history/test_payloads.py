"""Payloads of every encoding, broken and enormous ones too, as people can read them."""

import json
import sqlite3
from contextlib import closing
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload
from temporalio.converter import DataConverter

from executions.temporal.history.payloads import (
    DIGITS,
    NESTING,
    PAYLOAD_BYTES,
    PAYLOADS_BYTES,
    PAYLOADS_SHOWN,
    is_showable,
    shown_payloads,
)
from executions.values import NAME_BYTES, storable_json

ENCODINGS = ["json/plain", "json/protobuf", "binary/null", "binary/plain", "binary/protobuf"]


def payload(encoding: str, data: bytes = b"", **metadata: bytes) -> Payload:
    return Payload(metadata={"encoding": encoding.encode(), **metadata}, data=data)


def shown(payload: Payload) -> dict[str, Any]:
    [entry] = shown_payloads([payload])
    assert entry["encoding"] == payload.metadata["encoding"].decode()
    assert entry["size_bytes"] == len(payload.data)
    return entry


def value_of(payload: Payload) -> Any:
    """The value of what is shown whole."""
    entry = shown(payload)
    assert (entry["is_cut"], entry["problem"]) == (False, None)
    return entry["value"]


@pytest.mark.parametrize("value", [None, True, 3, 1.5, "text", ["a", {"b": []}], 10**999, {}])
def test_value_of_the_sdks_converter_is_shown_as_it_is(value: Any) -> None:
    [encoded] = DataConverter.default.payload_converter.to_payloads([value])
    assert value_of(encoded) == value


def test_message_as_json_is_shown_as_json() -> None:
    assert value_of(payload("json/protobuf", b'{"id":"1"}', messageType=b"x.Y")) == {"id": "1"}


def test_binary_data_is_shown_as_base64() -> None:
    assert value_of(payload("binary/plain", b"\x00\xff")) == "AP8="


def test_protobuf_is_shown_as_base64_and_its_type_named() -> None:
    entry = shown(payload("binary/protobuf", b"\x00", messageType=b"shop.Order"))
    assert entry["value"] == "AA=="
    assert entry["problem"] == "A protobuf message of type 'shop.Order', shown as base64"
    assert "type 'unknown'" in shown(payload("binary/protobuf"))["problem"]


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("binary/encrypted", "Encoded as 'binary/encrypted', which cannot"),
        ("", "names no encoding"),
    ],
)
def test_unknown_encoding_is_a_problem_that_says_what_to_do(encoding: str, told: str) -> None:
    entry = shown(payload(encoding, b"secret" * PAYLOAD_BYTES))
    assert (entry["value"], entry["is_cut"]) == (None, False)
    assert told in entry["problem"]
    assert entry["problem"].endswith("configure the data converter on the client")


def test_payload_without_metadata_names_no_encoding() -> None:
    [entry] = shown_payloads([Payload(data=b"x")])
    assert "names no encoding" in entry["problem"]


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[1] [2]"])
def test_broken_json_is_a_problem(data: bytes) -> None:
    entry = shown(payload("json/plain", data))
    assert (entry["value"], entry["is_cut"]) == (None, False)
    assert entry["problem"].startswith("Not JSON, though it is encoded as JSON: ")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b'{"share": NaN}', "JSON has no NaN"),
        (b"[-Infinity]", "JSON has no -Infinity"),
        (b"1e999", "JSON has no inf"),
        (b"[" + b"1" * (DIGITS + 1) + b"]", f"a number of more than {DIGITS} digits"),
        (b"[" * (NESTING + 2) + b"]" * (NESTING + 2), f"more than {NESTING} levels"),
        (b"[" * 8_000 + b"]" * 8_000, f"more than {NESTING} levels"),
    ],
)
def test_json_that_cannot_be_held_as_a_value_is_shown_as_text(data: bytes, why: str) -> None:
    entry = shown(payload("json/plain", data))
    assert (entry["value"], entry["is_cut"]) == (data.decode(), False)
    assert entry["problem"].startswith("Shown as text: ")
    assert why in entry["problem"]


def test_deepest_value_that_is_accepted_is_shown() -> None:
    data = b'{"a":' * (NESTING - 1) + b"[1]" + b"}" * (NESTING - 1)
    assert value_of(payload("json/plain", data)) == json.loads(data)


def test_characters_that_no_database_holds_are_replaced() -> None:
    data = rb'{"a\u0000": "b\ud800", "c": ["\ud83d\ude00"]}'
    assert value_of(payload("json/plain", data)) == {"a\ufffd": "b\ufffd", "c": ["😀"]}


def test_value_that_just_fits_is_shown_whole_and_a_larger_one_as_the_text_of_its_beginning() -> (
    None
):
    fits = json.dumps("x" * (PAYLOAD_BYTES - 2)).encode()
    assert value_of(payload("json/plain", fits)) == json.loads(fits)
    entry = shown(payload("json/plain", fits + b" "))
    assert entry["is_cut"]
    assert entry["problem"] is None
    assert entry["value"] == fits.decode()


def test_character_that_the_cut_divides_is_left_out() -> None:
    entry = shown(payload("json/plain", b'"' + "é".encode() * PAYLOAD_BYTES + b'"'))
    assert entry["value"] == '"' + "é" * (PAYLOAD_BYTES // 2 - 1)


def test_text_of_a_beginning_holds_only_what_can_be_stored() -> None:
    entry = shown(payload("json/plain", b"\x00\xff" * PAYLOAD_BYTES))
    assert entry["value"] == "\ufffd" * (PAYLOAD_BYTES // 2)


def test_enormous_metadata_is_cut() -> None:
    kind = b"x\x00" * PAYLOAD_BYTES
    entry = shown(payload("binary/protobuf", messageType=kind))
    assert "type 'x\ufffdx" in entry["problem"]
    assert len(entry["problem"]) < NAME_BYTES
    [entry] = shown_payloads([Payload(metadata={"encoding": kind})])
    assert len(entry["encoding"].encode()) <= NAME_BYTES


@pytest.mark.parametrize("encoding", ["binary/plain", "binary/protobuf"])
def test_enormous_binary_data_is_cut(encoding: str) -> None:
    entry = shown(payload(encoding, b"\x00" * (PAYLOAD_BYTES + 1)))
    assert entry["is_cut"]
    assert entry["value"] == "AAAA" * (PAYLOAD_BYTES // 3) + "AA=="


def test_of_too_many_payloads_the_rest_is_counted() -> None:
    entries = shown_payloads([payload("json/plain", b"12")] * (PAYLOADS_SHOWN + 2))
    assert [entry["value"] for entry in entries[:-1]] == [12] * PAYLOADS_SHOWN
    assert entries[-1] == {
        "encoding": "",
        "size_bytes": 4,
        "value": None,
        "is_cut": True,
        "problem": "2 more are left out: at most 50 payloads and 64 KiB are shown",
    }


def test_payloads_too_large_together_are_left_out_from_the_first_that_does_not_fit() -> None:
    large, small = payload("binary/plain", b"x" * 2 * PAYLOAD_BYTES), payload("json/plain", b"1")
    entries = shown_payloads([large, small, large, large, large, small])
    assert [entry["is_cut"] for entry in entries] == [True, False, True, True, True]
    assert entries[-1]["size_bytes"] == 2 * PAYLOAD_BYTES + 1
    assert entries[-1]["problem"].startswith("2 more are left out")


def test_payloads_that_show_no_data_do_not_count_against_the_limit() -> None:
    secret = payload("binary/encrypted", b"x" * PAYLOAD_BYTES)
    assert len(shown_payloads([secret] * PAYLOADS_SHOWN)) == PAYLOADS_SHOWN


def test_no_payloads_show_nothing() -> None:
    assert shown_payloads([]) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_that_are_shown_are_known_to_be(encoding: str) -> None:
    assert is_showable(payload(encoding))
    assert not is_showable(payload(encoding + "x"))
    assert not is_showable(Payload())


_texts = st.text() | st.text(alphabet="\x00\ud800\x01\u20ac", max_size=9)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
)
_json = _values.map(lambda value: json.dumps(value).encode())
_nested = st.integers(1, 20_000).map(lambda depth: b"[" * depth + b"]" * depth)
_large = st.builds(lambda part, times: part * times, st.binary(max_size=40), st.integers(0, 5_000))
_payloads = st.builds(
    Payload,
    metadata=st.dictionaries(st.text(), st.binary())
    | st.builds(
        lambda encoding, kind: {"encoding": encoding, "messageType": kind},
        st.sampled_from([name.encode() for name in ENCODINGS]),
        st.binary() | _large,
    ),
    data=st.binary() | _json | _nested | _large,
)
_ESCAPED = 6
"""Bytes that one byte of text may take in JSON."""


@given(st.lists(_payloads, max_size=60))
def test_whatever_is_encoded_is_shown_within_bounds_and_can_be_stored(
    payloads: list[Payload],
) -> None:
    entries = shown_payloads(payloads)
    text = msgspec.json.encode(entries)
    assert len(text) <= _ESCAPED * (PAYLOADS_BYTES + 2_500 * (PAYLOADS_SHOWN + 1))
    # As Django stores and reads it.
    stored = json.dumps(entries, allow_nan=False)
    assert json.loads(stored) == storable_json(entries) == entries
    with closing(sqlite3.connect(":memory:")) as database:
        assert database.execute("SELECT json_valid(?)", [stored]).fetchone() == (1,)
