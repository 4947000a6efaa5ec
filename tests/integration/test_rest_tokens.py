"""/api/v1/tokens, tokens in use, and manage.py create_token."""

import re
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from knox.models import AuthToken
from pytest_django import DjangoAssertNumQueries, Settings

from executions.api import password_attempts
from executions.api.authentication import user_of_token
from tests.rest import PASSWORD, a_token, a_user, basic, client_of, with_token

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

TOKENS = "/api/v1/tokens"
LIST = "/api/v1/executions"
TOKEN_FORM = r"nexus_[0-9a-f]{64}"


@pytest.fixture(autouse=True)
def no_attempts_yet() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def olga() -> Client:
    a_user("olga", may_view=True)
    return Client(headers=basic("olga", PASSWORD))


def created(client: Client, body: object | None = None) -> dict[str, Any]:
    response = client.post(TOKENS, body or {}, content_type="application/json")
    assert response.status_code == 201, response.content
    assert response["Cache-Control"] == "no-store"
    answer: dict[str, Any] = response.json()
    return answer


def status_with(text: str) -> int:
    return Client().get(LIST, headers=with_token(text)).status_code


def test_a_created_token_is_told_once_kept_hashed_and_lets_in(olga: Client) -> None:
    answer = created(olga)
    assert set(answer) == {"token", "token_key", "expires_at"}
    assert re.fullmatch(TOKEN_FORM, answer["token"])
    assert answer["token"].startswith(answer["token_key"])
    assert status_with(answer["token"]) == 200
    row = AuthToken.objects.get()
    assert answer["token"] not in (row.digest, row.token_key)
    listed = olga.get(TOKENS)
    assert answer["token"] not in listed.content.decode()
    assert row.digest not in listed.content.decode()
    (shown,) = listed.json()["results"]
    assert shown == {
        "token_key": answer["token_key"],
        "expires_at": answer["expires_at"],
        "created_at": shown["created_at"],
    }


@pytest.mark.parametrize(("body", "days"), [(None, 30), ({"days": 1}, 1), ({"days": 30}, 30)])
def test_a_token_lives_as_long_as_asked_and_no_longer_than_allowed(
    olga: Client, body: object, days: int
) -> None:
    created(olga, body)
    left = AuthToken.objects.get().expiry - timezone.now()
    assert timedelta(days=days, seconds=-60) < left <= timedelta(days=days)


@pytest.mark.parametrize(
    "body", [b'{"days": 31}', b'{"days": 0}', b'{"days": -1}', b'{"days": 1.5}', b'{"days": "1"}',
             b'{"more": 1}', b"[]", b"{", b'{"days": 99999999999999999999}']
)  # fmt: skip
def test_what_is_no_lifetime_is_400_and_makes_no_token(olga: Client, body: bytes) -> None:
    response = olga.post(TOKENS, body, content_type="application/json")
    assert response.status_code == 400
    assert "days" in response.json()["detail"]
    assert not AuthToken.objects.exists()


def test_no_body_is_no_wish(olga: Client) -> None:
    assert olga.generic("POST", TOKENS, b"", content_type="").status_code == 201


def test_everyone_lists_and_revokes_their_own_tokens_alone(olga: Client) -> None:
    mine = created(olga)
    other = client_of(a_user("other", may_view=True))
    theirs = created(other)
    assert other.delete(f"{TOKENS}/{mine['token_key']}").status_code == 404
    assert [each["token_key"] for each in other.get(TOKENS).json()["results"]] == [
        theirs["token_key"]
    ]
    assert status_with(mine["token"]) == 200
    assert olga.delete(f"{TOKENS}/{mine['token_key']}").status_code == 204
    assert status_with(mine["token"]) == 401
    assert status_with(theirs["token"]) == 200
    assert olga.delete(f"{TOKENS}/{mine['token_key']}").status_code == 404


def test_expired_tokens_are_not_listed_and_go_when_another_is_made(olga: Client) -> None:
    created(olga)
    AuthToken.objects.update(expiry=timezone.now())
    assert olga.get(TOKENS).json()["results"] == []
    assert AuthToken.objects.count() == 1, "looking deletes nothing"
    created(olga)
    assert AuthToken.objects.count() == 1


def test_there_is_a_limit_of_tokens_for_each_user(olga: Client, settings: Settings) -> None:
    settings.REST_KNOX = {**settings.REST_KNOX, "TOKEN_LIMIT_PER_USER": 2}
    created(olga)
    key = created(olga)["token_key"]
    response = olga.post(TOKENS, {}, content_type="application/json")
    assert (response.status_code, AuthToken.objects.count()) == (409, 2)
    assert "revoke one" in response.json()["detail"]
    created(client_of(a_user("other")))
    olga.delete(f"{TOKENS}/{key}")
    created(olga)


def test_a_token_neither_makes_nor_lists_nor_revokes_tokens(olga: Client) -> None:
    token = created(olga)
    program = Client(headers=with_token(token["token"]))
    for response in (
        program.post(TOKENS, {}, content_type="application/json"),
        program.get(TOKENS),
        program.delete(f"{TOKENS}/{token['token_key']}"),
    ):
        assert response.status_code == 401
        assert response["WWW-Authenticate"] == 'Basic realm="Nexus"'
    assert status_with(token["token"]) == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://testserver", 201),
        ("https://testserver", 201),
        ("https://trusted.example", 201),
        ("https://evil.example", 403),
        ("http://testserver.evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_site_gets_no_token_with_its_visitors_password(
    olga: Client, settings: Settings, origin: str, status: int
) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example"]
    response = olga.post(TOKENS, {}, content_type="application/json", headers={"Origin": origin})
    assert response.status_code == status


@pytest.mark.parametrize(
    "authorization",
    [
        "Token", "Token ", "Token a b", "Token nexus_", "Token \xff\xfe", "Token nexus_\xe9",
        f"Token {'x' * 10_000}", "Token \0", f"Token nexus_{'0' * 64}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("open_reading", [False, True])
def test_what_is_no_token_is_401_in_json(
    authorization: str, open_reading: bool, settings: Settings
) -> None:
    settings.NEXUS_OPEN_READING = open_reading
    client = Client(raise_request_exception=False)
    response = client.get(LIST, headers={"Authorization": authorization})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Token"
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "authorization",
    [
        "Basic", "Basic ???", "Basic a b", "Token x", "Bearer x",
        basic("a\0b", "c")["Authorization"],
        basic("olga", "c\0")["Authorization"],
        basic("olga", "wrong")["Authorization"],
        basic("ä" * 500, "c")["Authorization"],
    ],
)  # fmt: skip
def test_what_is_no_password_is_401_in_json(olga: Client, authorization: str) -> None:
    client = Client(raise_request_exception=False)
    response = client.get(TOKENS, headers={"Authorization": authorization})
    assert response.status_code == 401
    assert response["WWW-Authenticate"] == 'Basic realm="Nexus"'
    assert response.json()["detail"]


@pytest.mark.parametrize("text", ["", "\0", "nexus_\ud800", "ü", "x" * 100_000])
def test_any_text_may_be_asked_about(text: str) -> None:
    assert user_of_token(text) is None


def test_a_token_is_good_until_it_expires_is_revoked_or_its_user_may_no_longer_come_in() -> None:
    user = a_user("olga")
    text = a_token(user)
    holder = user_of_token(text)
    assert holder is not None
    assert (holder.user, holder.token) == (user, AuthToken.objects.get())
    assert user_of_token(text.upper()) is None
    assert user_of_token(text[:-1]) is None
    user.is_active = False
    user.save()
    assert user_of_token(text) is None
    user.is_active = True
    user.save()
    AuthToken.objects.update(expiry=timezone.now())
    assert user_of_token(text) is None
    AuthToken.objects.update(expiry=None)
    assert user_of_token(text) is not None
    AuthToken.objects.all().delete()
    assert user_of_token(text) is None


def test_a_request_with_a_token_asks_once_whose_it_is_and_writes_nothing(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    user = a_user("olga", may_view=True)
    texts = [a_token(user) for _ in range(5)]
    AuthToken.objects.exclude(token_key=texts[0][:15]).update(expiry=timezone.now())
    with django_assert_num_queries(4):  # the token, permissions twice, the page
        assert status_with(texts[0]) == 200
    assert AuthToken.objects.count() == 5


# Guessing


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the clock by which attempts are counted."""

    class Clock:
        seconds = 1_000_020.0

        def time(self) -> float:
            return self.seconds

    clock = Clock()
    monkeypatch.setattr(password_attempts, "time", clock)
    return clock


def attempt(name: str, password: str, address: str = "192.0.2.1") -> Any:
    return Client(REMOTE_ADDR=address, headers=basic(name, password)).get(TOKENS)


def test_of_one_name_passwords_are_tried_so_often_and_no_more(at: Any) -> None:
    a_user("olga")
    tried = [attempt("olga", "wrong", f"192.0.2.{n}").status_code for n in range(10)]
    assert tried == [401] * 10
    at.seconds += 35
    refused = attempt("olga", PASSWORD, "192.0.2.99")
    assert refused.status_code == 429
    assert refused["Retry-After"] == "25"
    assert refused.json()["detail"]
    assert attempt("other", "wrong").status_code == 401
    at.seconds += 25
    assert attempt("olga", PASSWORD).status_code == 200


def test_from_one_address_passwords_are_tried_so_often_whatever_the_names(at: Any) -> None:
    a_user("olga")
    tried = {attempt(f"user-{n}", "wrong").status_code for n in range(30)}
    assert tried == {401}
    assert attempt("olga", PASSWORD).status_code == 429
    forwarded = Client(REMOTE_ADDR="192.0.2.1", headers=basic("olga", PASSWORD)).get(
        TOKENS, headers={"X-Forwarded-For": "198.51.100.7"}
    )
    assert forwarded.status_code == 429
    assert attempt("olga", PASSWORD, "198.51.100.7").status_code == 200


def test_a_password_is_not_hashed_once_too_many_were_tried(
    at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_attempts, "PER_USERNAME", 0)
    a_user("olga")
    monkeypatch.setattr("django.contrib.auth.authenticate", None)
    assert attempt("olga", PASSWORD).status_code == 429


def test_sessions_and_tokens_are_not_counted(at: Any) -> None:
    user = a_user("olga", may_view=True)
    session, text = client_of(user), a_token(user)
    assert {session.get(TOKENS).status_code for _ in range(40)} == {200}
    assert {status_with(text) for _ in range(40)} == {200}


# manage.py create_token


def create_token(*arguments: str) -> str:
    output = StringIO()
    call_command("create_token", *arguments, stdout=output)
    return output.getvalue()


def test_the_command_prints_the_token_alone() -> None:
    a_user("olga", may_view=True)
    printed = create_token("olga", "--days", "2")
    assert re.fullmatch(f"{TOKEN_FORM}\n", printed)
    assert status_with(printed.strip()) == 200
    left = AuthToken.objects.get().expiry - timezone.now()
    assert timedelta(days=1) < left <= timedelta(days=2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nobody"], "no user 'nobody'"),
        (["gone"], "not active"),
        (["olga", "--days", "0"], "from 1 to"),
        (["olga", "--days", "31"], "30 days at most"),
        (["olga", "--days", "9999999999"], "from 1 to"),
    ],
)
def test_the_command_says_why_it_makes_no_token(arguments: list[str], told: str) -> None:
    a_user("olga")
    gone = a_user("gone")
    gone.is_active = False
    gone.save()
    with pytest.raises(CommandError, match=told):
        create_token(*arguments)
    assert not AuthToken.objects.exists()


# The admin


def test_a_superuser_sees_and_revokes_tokens_in_the_admin_and_learns_none() -> None:
    text = a_token(a_user("olga", may_view=True))
    root = a_user("root", is_staff=True)
    root.is_superuser = True
    root.save()
    client = client_of(root)
    listing = "/admin/knox/authtoken/"
    row = AuthToken.objects.get()
    one = f"{listing}{row.pk}/change/"
    for address in (listing, f"{listing}?q=olga", one):
        page = client.get(address)
        assert page.status_code == 200
        assert row.token_key in page.content.decode()
        assert text not in page.content.decode()
    assert client.get(f"{listing}add/").status_code == 403
    assert client.post(one, {"expiry_0": "2099-01-01", "expiry_1": "0:0"}).status_code == 403
    assert client.post(f"{listing}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert status_with(text) == 401


def test_the_admins_login_is_counted_with_them(at: Any) -> None:
    a_user("olga", is_staff=True)
    for _ in range(10):
        assert attempt("olga", "wrong").status_code == 401
    login = {"username": "olga", "password": PASSWORD}
    refused = Client().post("/admin/login/", login)
    assert refused.status_code == 200
    assert "throttled" in refused.content.decode()
    at.seconds += 60
    assert Client().post("/admin/login/", login).status_code == 302
