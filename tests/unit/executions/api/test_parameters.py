"""Query parameters: what is read, and what is said of what cannot be."""

from datetime import UTC, datetime

import pytest
from django.http import QueryDict

from executions.api.errors import BadParametersError
from executions.api.parameters import check_parameters, listed, parse_moment, unacceptable


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02t03:04:05z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.678901Z", datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)),
        ("2026-01-02T03:04:05.5+02:00", datetime(2026, 1, 2, 1, 4, 5, 500000, tzinfo=UTC)),
        ("2026-01-02T23:04:05-05:30", datetime(2026, 1, 3, 4, 34, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.1234567Z", datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
    ],
)
def test_rfc_3339_moments_are_read(text: str, moment: datetime) -> None:
    assert parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "2026-01-02",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04Z",
        "2026-01-02 03:04:05Z",
        "2026-01-02T03:04:05 02:00",
        "2026-01-02T03:04:05Z ",
        "2026-13-02T03:04:05Z",
        "2026-02-30T03:04:05Z",
        "0000-01-02T03:04:05Z",
        "0001-01-01T00:00:00+02:00",
        "9999-12-31T23:59:59-02:00",
        "2026-01-02T03:04:05+25:00",
        "٢٠٢٦-01-02T03:04:05Z",
    ],
)
def test_other_moments_are_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339 moment such as"):
        parse_moment(text)


def test_lists_are_repeated_or_comma_separated_or_both() -> None:
    assert listed(["a,b", "c"]) == ["a", "b", "c"]
    assert listed([]) == []


def test_the_first_member_that_is_not_accepted_is_named() -> None:
    assert unacceptable(["a", "x"], ["a", "b"]) == "'x' is not accepted; accepted are a, b"
    assert unacceptable(["a", "b"], ["a", "b"]) is None
    told = unacceptable(["x" * 500], ["a"])
    assert told is not None
    assert len(told) < 130


def test_known_parameters_with_values_pass() -> None:
    check_parameters(QueryDict("q=1&many=1&many=2"), once=["q"], repeatable=["many"])


@pytest.mark.parametrize(
    ("query", "name", "told"),
    [
        ("z=1", "z", "accepted are many, q"),
        ("q=1&q=2", "q", "once only"),
        ("q=a%00", "q", "NUL"),
        ("many=1&many=%00", "many", "NUL"),
        ("q=", "q", "empty"),
    ],
)
def test_each_fault_is_told_under_its_parameter(query: str, name: str, told: str) -> None:
    with pytest.raises(BadParametersError) as caught:
        check_parameters(QueryDict(query), once=["q"], repeatable=["many"])
    (problem,) = caught.value.problems[name]
    assert told in problem
    assert str(caught.value.detail) == f"{name} {problem}"


def test_all_faults_are_told_at_once_and_long_names_are_cut() -> None:
    with pytest.raises(BadParametersError) as caught:
        check_parameters(QueryDict(f"q=&{'z' * 5000}=1"), once=["q"])
    assert list(caught.value.problems) == ["q", "z" * 79 + "…"]
