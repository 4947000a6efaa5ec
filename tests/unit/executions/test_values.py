"""What is stored of what workflows give: text of any kind, moments, numbers, JSON."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import StrEnum
from math import copysign
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions import values
from executions.errors import RecordingError
from executions.values import UnacceptableValueError

any_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\x00\ud800\udfff😀"))


class Kind(StrEnum):
    PLAIN = "plain"


class NowhereInTime(tzinfo):
    """A time zone that does not say where it is."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


def refused(clean: Callable[[str, Any], object], value: object) -> str:
    with pytest.raises(UnacceptableValueError) as error:
        clean("field", value)
    assert isinstance(error.value, RecordingError)
    assert error.value.field.startswith("field")
    assert str(error.value).startswith(error.value.field)
    return str(error.value)


@given(any_text)
def test_any_text_becomes_storable_and_keeps_all_else(text: str) -> None:
    stored = values.storable_text(text)
    stored.encode()
    assert "\x00" not in stored
    assert len(stored) == len(text)
    for was, now in zip(text, stored, strict=True):
        assert now == ("\ufffd" if was == "\x00" or "\ud800" <= was <= "\udfff" else was)
    assert values.storable_text(stored) == stored


@pytest.mark.parametrize(
    ("given_name", "stored"),
    [
        ("fetch_data", "fetch_data"),
        ("a\x00b", "a\ufffdb"),
        ("lone \ud83d", "lone \ufffd"),
        ("😀 emoji", "😀 emoji"),
        (" spaces stay ", " spaces stay "),
        ("n" * 300, "n" * 300),
        ("é" * 300, "é" * 300),
        ("x" * 1_000, "x" * 1_000),
        ("😀" * 250, "😀" * 250),
        ("\x00" * 333, "\ufffd" * 333),
        (Kind.PLAIN, "plain"),
    ],
)
def test_a_name_is_any_text_of_at_most_1000_bytes(given_name: str, stored: str) -> None:
    assert values.clean_name("field", given_name) == stored


@pytest.mark.parametrize(
    ("name", "size"), [("x" * 1_001, 1_001), ("😀" * 251, 1_004), ("\x00" * 334, 1_002)]
)
def test_a_longer_name_is_refused_with_its_size(name: str, size: int) -> None:
    assert refused(values.clean_name, name) == (
        f"field has {size} bytes in UTF-8; at most 1000 are accepted"
    )


@pytest.mark.parametrize("name", ["", None, 5, b"bytes", ["a"]])
def test_a_name_that_is_empty_or_no_text_is_refused(name: object) -> None:
    assert "must" in refused(values.clean_name, name)


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), "2026-01-02T03:04:05.678901+00:00"),
        (
            datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=5, minutes=30))),
            "2026-01-01T21:30:00+00:00",
        ),
        (
            datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
            "2026-07-01T10:00:00+00:00",
        ),
        (
            datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
            "2026-10-25T01:30:00+00:00",
        ),
        (datetime.min.replace(tzinfo=UTC), "0001-01-01T00:00:00+00:00"),
        (datetime.max.replace(tzinfo=UTC), "9999-12-31T23:59:59.999999+00:00"),
    ],
)
def test_a_moment_of_any_zone_is_kept_as_utc(moment: datetime, utc: str) -> None:
    cleaned = values.clean_moment("field", moment)
    assert cleaned is not None
    assert cleaned.tzinfo is UTC
    assert cleaned.isoformat() == utc


def test_no_moment_stays_none() -> None:
    assert values.clean_moment("field", None) is None


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 1, 1),  # noqa: DTZ001
        datetime(2026, 1, 1, tzinfo=NowhereInTime()),
        "2026-01-01T00:00:00Z",
        1_767_225_600,
        datetime(2026, 1, 1, tzinfo=UTC).date(),
    ],
)
def test_a_moment_without_a_zone_is_refused(moment: object) -> None:
    assert "with a time zone" in refused(values.clean_moment, moment)


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    ],
)
def test_a_moment_outside_the_years_of_utc_is_refused(moment: datetime) -> None:
    assert "years 1 to 9999" in refused(values.clean_moment, moment)


@pytest.mark.parametrize(
    ("details", "stored"),
    [
        (None, None),
        ({"type": None, "message": ""}, {"type": None, "message": ""}),
        ({"type": "", "message": "m"}, {"type": None, "message": "m"}),
        ({"message": "no\x00 \udc00", "type": "E\x00"},
         {"type": "E\ufffd", "message": "no\ufffd \ufffd"}),
        ({"type": "E", "message": "m" * 4_000}, {"type": "E", "message": "m" * 4_000}),
        ({"type": "E", "message": "m" * 4_001}, {"type": "E", "message": "m" * 3_999 + "…"}),
        ({"type": "E", "message": "😀" * 5_000}, {"type": "E", "message": "😀" * 3_999 + "…"}),
    ],
)  # fmt: skip
def test_error_details_are_a_type_and_a_message_that_is_cut(
    details: dict[str, Any] | None, stored: dict[str, Any] | None
) -> None:
    assert values.clean_error_details("field", details) == stored


@pytest.mark.parametrize(
    "details",
    [
        {},
        {"type": "E"},
        {"message": "m"},
        {"type": "E", "message": "m", "stack": "s"},
        {"type": "E", "message": None},
        {"type": "E", "message": 5},
        {"type": 5, "message": "m"},
        {"type": "E" * 1_001, "message": "m"},
        "message",
        ["type", "message"],
        5,
    ],
)
def test_error_details_of_another_form_are_refused(details: object) -> None:
    refused(values.clean_error_details, details)


@pytest.mark.parametrize(
    "execution_id", [None, "a", "3f0c2a44-8d4e-4f5e-9a57-6a1f2f6f0d11", "x" * 64]
)
def test_a_link_is_an_execution_id_or_none(execution_id: str | None) -> None:
    assert values.clean_link("field", execution_id) == execution_id


@pytest.mark.parametrize("execution_id", ["", "a/b", "x" * 65, "-a", 5, b"a", ["a"], "a\n", "\xe4"])
def test_a_link_of_another_form_is_refused_with_the_form(execution_id: object) -> None:
    told = refused(values.clean_link, execution_id)
    assert told == "field must have the form [A-Za-z0-9][A-Za-z0-9._-]{0,63}, or be None"


AT = "2026-01-02T03:04:05.678901Z"


@pytest.mark.parametrize(
    ("point", "stored"),
    [
        (None, None),
        ({"kind": "signal", "name": "approve", "at": AT},
         {"kind": "signal", "name": "approve", "at": AT}),
        ({"at": AT, "kind": "reset", "name": None}, {"kind": "reset", "name": None, "at": AT}),
        ({"kind": "k\x00", "name": "n\ud800", "at": AT},
         {"kind": "k\ufffd", "name": "n\ufffd", "at": AT}),
    ],
)  # fmt: skip
def test_a_point_is_a_kind_a_name_if_there_is_one_and_a_time(
    point: dict[str, Any] | None, stored: dict[str, Any] | None
) -> None:
    assert values.clean_point("field", point) == stored


@pytest.mark.parametrize(
    ("point", "told"),
    [
        ({}, "of kind, name and at"),
        ({"kind": "a", "name": "b"}, "of kind, name and at"),
        ({"kind": "a", "name": "b", "at": AT, "by": "c"}, "of kind, name and at"),
        ("signal", "of kind, name and at"),
        (["kind", "name", "at"], "of kind, name and at"),
        ({"kind": None, "name": "b", "at": AT}, "field.kind must be text"),
        ({"kind": "", "name": "b", "at": AT}, "field.kind must not be empty"),
        ({"kind": "a", "name": "", "at": AT}, "field.name must not be empty"),
        ({"kind": "a", "name": "x" * 1_001, "at": AT}, "field.name has 1001 bytes"),
        ({"kind": "a", "name": "b", "at": None}, "field.at must be text"),
    ],
)
def test_a_point_of_another_form_is_refused(point: object, told: str) -> None:
    assert told in refused(values.clean_point, point)


@pytest.mark.parametrize(
    ("ids", "stored"),
    [
        ([], []),
        (("b", "a"), ["b", "a"]),
        (["a", "b", "a"], ["a", "b"]),
        (["a\x00", "a\ufffd"], ["a\ufffd"]),
        ((name for name in "ab"), ["a", "b"]),
        ([str(number) for number in range(5_000)], [str(number) for number in range(5_000)]),
    ],
)
def test_depends_on_is_a_list_of_ids_each_once(ids: object, stored: list[str]) -> None:
    assert values.clean_depends_on("field", ids) == stored  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "ids", ["abc", None, 5, [1], [None], [""], ["x" * 1_001], [str(n) for n in range(5_001)]]
)
def test_depends_on_of_another_kind_is_refused(ids: object) -> None:
    refused(values.clean_depends_on, ids)


@pytest.mark.parametrize(
    ("share", "stored"), [(None, None), (0, 0.0), (1, 1.0), (0.5, 0.5), (5e-324, 5e-324)]
)
def test_progress_is_a_share_from_0_to_1(share: float | None, stored: float | None) -> None:
    cleaned = values.clean_progress("field", share)
    assert cleaned == stored
    assert type(cleaned) is type(stored)


def test_progress_of_minus_zero_is_zero() -> None:
    cleaned = values.clean_progress("field", -0.0)
    assert cleaned is not None
    assert copysign(1, cleaned) == 1


@pytest.mark.parametrize(
    "share",
    [
        True,
        False,
        -0.1,
        1.0000001,
        float("nan"),
        float("inf"),
        "0.5",
        Decimal("0.5"),
        1j,
        [0],
        pytest.param(10**5_000, id="of very many digits"),
    ],
)
def test_progress_of_another_kind_is_refused(share: object) -> None:
    assert "a number from 0 to 1" in refused(values.clean_progress, share)


@pytest.mark.parametrize("attempt", [1, 2, 2**31 - 1])
def test_an_attempt_is_a_whole_number_from_1(attempt: int) -> None:
    assert values.clean_attempt("field", attempt) == attempt


@pytest.mark.parametrize(
    "attempt",
    [
        0,
        -1,
        2**31,
        pytest.param(10**5_000, id="of very many digits"),
        True,
        1.0,
        "1",
        None,
        float("nan"),
    ],
)
def test_an_attempt_of_another_kind_is_refused(attempt: object) -> None:
    assert "a whole number from 1" in refused(values.clean_attempt, attempt)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(json_data)
def test_any_json_data_becomes_storable_and_keeps_its_form(data: Any) -> None:
    stored = values.storable_json(data)
    text = json.dumps(stored, allow_nan=False, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text
    assert json.loads(text) == stored
    assert values.storable_json(stored) == stored
    given_text = json.dumps(data, ensure_ascii=False)
    if values.storable_text(given_text) == given_text and "\\u0000" not in given_text:
        assert stored == data


def test_text_in_json_data_is_made_storable_wherever_it_is() -> None:
    stored = values.storable_json({"k\x00": ("v\ud800", [{"deep": "\x00"}], 1, 1.5, True, None)})
    assert stored == {"k\ufffd": ["v\ufffd", [{"deep": "\ufffd"}], 1, 1.5, True, None]}


@pytest.mark.parametrize(
    "data",
    [{1: "a"}, {None: 1}, {b"k": 1}, b"bytes", {1, 2}, object(), datetime(2026, 1, 1, tzinfo=UTC),
     Decimal(1), [1j], {"deep": [{"deeper": b""}]}],
)  # fmt: skip
def test_what_json_has_not_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError, match=r"JSON"):
        values.storable_json(data)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_has_not_is_a_value_error(number: float) -> None:
    with pytest.raises(ValueError, match="JSON has no"):
        values.storable_json([{"n": number}])
