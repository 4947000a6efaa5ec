"""Execution ids and event ids: what is accepted, and in which order they stand."""

from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executions.identifiers import EventId, MalformedEventIdError, is_execution_id

UP_TO_SIXTEEN_DIGITS = st.integers(0, 10**16 - 1)
event_ids = st.builds(EventId, UP_TO_SIXTEEN_DIGITS, UP_TO_SIXTEEN_DIGITS)
near_event_ids = st.builds(EventId, st.integers(0, 3), st.integers(0, 3))


@given(event_ids)
def test_parsing_undoes_writing(event_id: EventId) -> None:
    assert EventId.parse(str(event_id)) == event_id
    assert f"{event_id}" == f"{event_id.milliseconds}-{event_id.sequence}"


@given(st.from_regex(r"[0-9]{1,16}-[0-9]{1,16}", fullmatch=True))
def test_writing_undoes_parsing_so_that_an_event_has_one_spelling(text: str) -> None:
    leads_with_zero = any(part[0] == "0" and part != "0" for part in text.split("-"))
    if leads_with_zero or not text.isascii():
        with pytest.raises(MalformedEventIdError):
            EventId.parse(text)
    else:
        assert str(EventId.parse(text)) == text


@given(st.one_of(event_ids, near_event_ids), st.one_of(event_ids, near_event_ids))
def test_order_is_that_of_valkeys_128_bit_stream_ids(one: EventId, other: EventId) -> None:
    def as_valkey_compares(event_id: EventId) -> int:
        return (event_id.milliseconds << 64) | event_id.sequence

    assert (one < other) == (as_valkey_compares(one) < as_valkey_compares(other))
    assert (one == other) == (as_valkey_compares(one) == as_valkey_compares(other))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-",
        "1-",
        "-1",
        "1-2-3",
        "01-2",
        "1-02",
        "00-0",
        "+1-2",
        "1--2",
        " 1-2",
        "1-2 ",
        "1-2\n",
        "1.0-2",
        "1e3-2",
        "$",
        "1-*",
        "a-b",
        "\uff11-\uff12",
        "\u0663-\u0664",
        "1-2\x00",
        f"{10**16}-0",
        f"0-{10**16}",
        "x" * 1_000_000,
    ],
)
def test_text_that_is_no_event_id_is_refused_shortly_and_says_the_form(text: str) -> None:
    with pytest.raises(MalformedEventIdError, match="<milliseconds>-<sequence>") as refused:
        EventId.parse(text)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    "text", ["a", "0", "Z", "a" * 64, "A.b_c-d", "6f1c0a52-6f0e-4a9c-9d2e-9f4f2f6c1f11", "a.."]
)
def test_an_id_of_the_form_is_an_execution_id(text: str) -> None:
    assert is_execution_id(text)


@pytest.mark.parametrize(
    "value",
    [
        "", "a" * 65, ".a", "-a", "_a", "a b", "a/b", "a\n", "\na", "a\x00", "ä", "a\ud800",
        "\uff11", "e\u0301", "../x", "a:b", "a{b}", "a*", "😀", None, 5, b"abc",
    ],
)  # fmt: skip
def test_anything_else_is_none(value: object) -> None:
    assert not is_execution_id(value)


@given(st.text(max_size=70))
def test_an_execution_id_is_safe_in_a_stream_key_an_address_and_a_table(text: str) -> None:
    accepted = (
        0 < len(text) <= 64
        and set(text) <= set(ascii_letters + digits + "._-")
        and text[0] in ascii_letters + digits
    )
    assert is_execution_id(text) == accepted


@pytest.mark.parametrize(
    ("one", "other", "contradict"),
    [
        ((5, 5), (5, 5), False),
        ((5, 5), (6, 5), True),
        ((5, 5), (5, 6), False),
        ((5, 5), (6, 6), False),
        ((5, 5), (4, 6), True),
    ],
)
def test_ids_that_cannot_be_of_one_log_contradict_each_other(
    one: tuple[int, int], other: tuple[int, int], contradict: bool
) -> None:
    assert EventId(*one).contradicts(EventId(*other)) is contradict
    assert EventId(*other).contradicts(EventId(*one)) is contradict
