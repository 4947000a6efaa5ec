"""REST against requests that no document describes: each is answered in JSON, and none by a 5xx."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from executions.ledger import PointNote, note_points
from tests.fuzzing.effort import examples
from tests.integration.telling import NOW
from tests.rest import a_user, client_of
from tests.samples import an_execution
from tests.truth import nobody_listening

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

LIST: Final = "/api/v1/executions"
STORY: Final = f"{LIST}/open/story"
POSTED_TO: Final = [f"{LIST}/open/cancel", f"{LIST}/open/terminate", "/api/v1/tokens"]

any_text = st.text(st.characters(exclude_categories=()), max_size=30)
latin1 = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=30)
nesting = st.builds(
    lambda depth, opened: opened * depth,
    st.integers(1, 200_000),
    st.sampled_from(["[", '{"reason":', '{"x":[', '{"reason":[{"":']),
)
json_texts = st.sampled_from(
    [
        *('{"reason":NaN}', '{"reason":1e999999}', '{"reason":-Infinity}', "NaN", "null", '""'),
        *('{"reason":"a","reason":"b"}', '{"reason":"\\ud800"}', '{"reason":"\\u0000"}'),
        *('{"reason":' + "9" * 5_000 + "}", '{"days":' + "9" * 400 + "}", "[" * 3, "\ufeff{}"),
        *("{'reason': 1}", '{"reason":"' + "x" * 70_000 + '"}', "[]", "1", '{"":{}}'),
    ]
)
json_bodies = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["reason", "days"]) | any_text, inner, max_size=3)
    ),
    max_leaves=8,
).map(json.dumps)
bodies = st.binary(max_size=60) | (nesting | json_texts | json_bodies).map(str.encode)
media_types = (
    st.sampled_from(
        [
            *("application/json", "application/json", "application/json; charset=utf-16", ""),
            *("multipart/form-data; boundary=x", "application/x-www-form-urlencoded", "text/plain"),
        ]
    )
    | latin1
)


@pytest.fixture(autouse=True)
def executions() -> Iterator[None]:
    with nobody_listening():
        for number in range(7):
            an_execution(execution_id=f"e-{number}")
        an_execution("step", execution_id="open")
        points = [
            PointNote(engine_event_id=number, at=NOW, kind="signal") for number in range(1, 8)
        ]
        note_points("open", points)
        yield


@pytest.fixture
def operator() -> Client:
    return client_of(a_user("operator", may_view=True, may=["cancel", "terminate"]))


def assert_answered(response: Any) -> Any:
    """As an API answers: no fault of the server's, and JSON that says what is wrong."""
    assert response.status_code < 500, response.content
    if not response.content:
        return None
    assert response["Content-Type"] == "application/json", (response.status_code, response.content)
    answer = json.loads(response.content)
    if response.status_code >= 400:
        assert isinstance(answer["detail"], str)
        assert len(response.content) < 4_000
    return answer


@examples(150)
@given(path=st.sampled_from(POSTED_TO), body=bodies, media_type=media_types)
def test_any_body_is_taken_or_refused(
    operator: Client, path: str, body: bytes, media_type: str
) -> None:
    assert_answered(operator.generic("POST", path, body, media_type))


def raw_path(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="/.-_~")


parts = st.sampled_from(
    ["executions", "open", "story", "activities", "step", "tokens", "", ".", ".."]
)
paths = st.lists(parts | any_text.map(raw_path) | st.just("%00") | st.just("%ff%2f"), max_size=6)


@examples(150)
@given(
    method=st.sampled_from(
        ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "POST", "X"]
    ),
    parts=paths,
    query=latin1,
)
def test_any_path_is_found_or_not(
    operator: Client, method: str, parts: list[str], query: str
) -> None:
    path = "/".join(["/api/v1", *parts])
    assert_answered(operator.generic(method, path, QUERY_STRING=query))


known_parameters = st.sampled_from(
    [
        *("status", "workflow_id", "workflow_type", "run_id", "cursor", "page_size", "include"),
        *("created_after", "created_before", "q", "search", "created_at_after", "ordering"),
    ]
)
values = (
    any_text
    | st.integers().map(str)
    | st.sampled_from(
        [
            *(
                "",
                "0",
                "-1",
                "1e3",
                "٣",
                "9" * 400,
                "NaN",
                "running",
                "running,failed",
                "activities",
            ),
            *("2026-01-02T03:04:05Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"),
            *("2026-01-02", "\0", "\ud800", "2026-02-30T00:00:00Z", "24:00", "x" * 5_000),
        ]
    )
)
queries = st.lists(st.tuples(known_parameters | any_text, values), max_size=4).map(
    lambda pairs: "&".join(f"{raw_path(name)}={raw_path(value)}" for name, value in pairs)
)


@examples(200)
@given(
    path=st.sampled_from([LIST, f"{LIST}/open", STORY, f"{LIST}/open/activities/step"]),
    query=queries | latin1,
)
def test_any_parameters_are_understood_or_refused(operator: Client, path: str, query: str) -> None:
    response = operator.generic("GET", path, QUERY_STRING=query)
    assert response.status_code in (200, 400), response.content
    assert_answered(response)


header_names = st.sampled_from(
    [
        *("HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_ACCEPT", "HTTP_ORIGIN", "HTTP_REFERER"),
        *("HTTP_X_FORWARDED_FOR", "HTTP_X_CSRFTOKEN", "HTTP_RANGE", "HTTP_IF_MODIFIED_SINCE"),
        *("HTTP_X_FORWARDED_PROTO", "HTTP_ACCEPT_LANGUAGE", "HTTP_ACCEPT_ENCODING"),
        *("HTTP_X_HTTP_METHOD_OVERRIDE", "CONTENT_LENGTH", "CONTENT_TYPE"),
    ]
)
header_values = latin1 | st.builds(
    "{}{}".format,
    st.sampled_from(
        ["Token ", "Token nexus_", "Basic ", "Basic AAAA", "sessionid=", "csrftoken=", "http://"]
    ),
    latin1,
)


@examples(100)
@given(
    path=st.sampled_from([LIST, f"{LIST}/open", *POSTED_TO]),
    method=st.sampled_from(["GET", "POST"]),
    headers=st.dictionaries(header_names, header_values, max_size=4),
)
def test_any_headers_are_answered(path: str, method: str, headers: dict[str, Any]) -> None:
    assert_answered(Client(raise_request_exception=False).generic(method, path, b"{}", **headers))


def cursor_in(link: str | None) -> str | None:
    return None if link is None else parse_qs(urlsplit(link).query)["cursor"][0]


def mutated(draw: st.DrawFn, cursor: str) -> str:
    """The cursor with a character changed, lost or too many."""
    at = draw(st.integers(0, len(cursor) - 1))
    return cursor[:at] + draw(st.sampled_from(["", "A", "=", "-", "é", "%"])) + cursor[at + 1 :]


@st.composite
def cursors(draw: st.DrawFn, given_out: list[str]) -> str:
    """One that a list gave, of this list or of the other, as it was or mutated; or a forged one."""
    kind = draw(st.sampled_from(["given out", "mutated", "cut", "forged"]))
    cursor = draw(st.sampled_from(given_out))
    if kind == "mutated":
        return mutated(draw, cursor)
    if kind == "cut":
        return cursor[: draw(st.integers(0, len(cursor)))]
    if kind == "forged":
        place = draw(
            st.builds(
                "{} {} {}".format,
                st.sampled_from(["next", "previous", "NEXT", ""]),
                st.integers() | st.sampled_from([10**18 - 1, -(10**18) + 1, 2**63, 0]),
                st.sampled_from(["e-3", "", "zzz", "\0", "x" * 65]),
            )
        )
        return urlsafe_b64encode(place.strip().encode()).decode()
    return cursor


def test_any_cursor_is_a_place_in_the_list_or_refused(operator: Client) -> None:
    given_out = [
        cursor
        for path in (LIST, STORY)
        for first in [operator.get(f"{path}?page_size=3").json()]
        for page in [first, operator.get(first["next"]).json()]
        for cursor in (cursor_in(page["next"]), cursor_in(page["previous"]))
        if cursor is not None
    ]

    @examples(150)
    @given(cursor=cursors(given_out), path=st.sampled_from([LIST, STORY]))
    def ask(cursor: str, path: str) -> None:
        response = operator.get(path, {"cursor": cursor, "page_size": "4"})
        answer = assert_answered(response)
        if response.status_code == 200:
            # Whatever place it is, the page is a run of the list, and its links lead on.
            whole = operator.get(path).json()["results"]
            shown = answer["results"]
            assert not shown or shown == whole[whole.index(shown[0]) :][: len(shown)]
            for link in (answer["next"], answer["previous"]):
                assert link is None or operator.get(link).status_code == 200
        else:
            assert response.status_code == 400
            assert list(answer["parameters"]) == ["cursor"]

    ask()
