"""Which pages may open a WebSocket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.access.origins import origin_is_allowed

HOSTS = ["127.0.0.1", "localhost", "[::1]", "nexus.example", ".wild.example"]
ORIGINS = ["https://dashboard.example", "http://127.0.0.1:5173"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "127.0.0.1:8000"),
        (None, None),
        (None, "evil.example"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://nexus.example", "nexus.example"),
        ("https://nexus.example:8443", "nexus.example:8443"),
        ("HTTPS://Nexus.Example", "nexus.example"),
        ("https://nexus.example", "NEXUS.example"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
        ("https://a.wild.example", "a.wild.example"),
        ("https://dashboard.example", "nexus.example"),
        ("https://dashboard.example", None),
        ("http://127.0.0.1:5173", "127.0.0.1:8000"),
    ],
)
def test_no_origin_the_own_and_the_listed_are_allowed(origin: str | None, host: str | None) -> None:
    assert origin_is_allowed(origin, host, HOSTS, ORIGINS)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("", "127.0.0.1:8000"),
        ("null", "127.0.0.1:8000"),
        ("null", "null"),
        # another port, host, or scheme than the server's own
        ("http://127.0.0.1:8001", "127.0.0.1:8000"),
        ("http://127.0.0.1", "127.0.0.1:8000"),
        ("http://localhost:8000", "127.0.0.1:8000"),
        ("https://evil.example", "nexus.example"),
        ("https://nexus.example.evil.example", "nexus.example"),
        ("https://evil-nexus.example", "nexus.example"),
        ("ftp://nexus.example", "nexus.example"),
        ("chrome-extension://nexus.example", "nexus.example"),
        ("file://", ""),
        ("file://", None),
        # a name that its owner made to point here
        ("http://rebinding.example:8000", "rebinding.example:8000"),
        ("http://10.0.0.7:8000", "10.0.0.7:8000"),
        ("http://[::2]:8000", "[::2]:8000"),
        # malformed
        ("http://", ""),
        ("http://", None),
        ("http://nexus.example:port", "nexus.example:port"),
        ("http://nexus.example:80:80", "nexus.example:80:80"),
        ("http://nexus.example:-1", "nexus.example:-1"),
        ("http://::1", "::1"),
        ("http://[::1", "[::1"),
        ("http://nexus.example/", "nexus.example"),
        ("http://nexus.example/", "nexus.example/"),
        ("http://user@nexus.example", "nexus.example"),
        ("http://user@nexus.example", "user@nexus.example"),
        ("http://nexus.example nexus.example", "nexus.example nexus.example"),
        ("nexus.example", "nexus.example"),
        ("//nexus.example", "nexus.example"),
        ("https://nexus.example", None),
        # only listed as a whole
        ("http://dashboard.example", "nexus.example"),
        ("https://dashboard.example:8443", "nexus.example"),
        ("https://dashboard.example.evil.example", "nexus.example"),
    ],
)
def test_everything_else_is_refused(origin: str, host: str | None) -> None:
    assert not origin_is_allowed(origin, host, HOSTS, ORIGINS)


def test_page_under_any_name_is_allowed_where_any_host_is() -> None:
    assert origin_is_allowed("http://any.example", "any.example", ["*"], [])
    assert not origin_is_allowed("http://other.example", "any.example", ["*"], [])


@given(st.text(), st.none() | st.text())
def test_any_headers_are_answered(origin: str, host: str | None) -> None:
    allowed = origin_is_allowed(origin, host, HOSTS, ORIGINS)
    assert not allowed or origin in ORIGINS or origin.lower().endswith((host or "?").lower())
