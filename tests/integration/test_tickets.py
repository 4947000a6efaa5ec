"""Tickets: asked for over REST, used once, by one process, within half a minute, told to no log."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from streaming.access.credentials import token_credential
from streaming.access.tickets import (
    TICKET_SECONDS,
    TICKETS_PER_USER,
    TooManyTicketsError,
    give_ticket,
    take_ticket,
)
from streaming.models import Ticket
from tests.integration.socket_callers import (
    a_ticket,
    a_token,
    a_viewer,
    by_ticket,
    by_token,
    cookie,
    session_of,
)
from tests.rest import basic
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, session_environment, web_running
from tests.truth import nobody_listening
from tests.viewers import Viewers

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

TICKETS = "/api/v1/tickets"
CREDENTIAL = token_credential("nexus_x")


@pytest.fixture(autouse=True)
def known_execution(valkey: ValkeyServer) -> Iterator[None]:
    with nobody_listening():
        an_execution("fetch", execution_id="known")
        an_execution("fetch", execution_id="other")
        yield


def asked(client: Any, body: Any = None, **headers: str) -> Any:
    return client.post(
        TICKETS, json.dumps(body or {}), content_type="application/json", headers=headers
    )


class TestAsking:
    """POST /api/v1/tickets."""

    def test_answer_is_what_to_offer_and_how_long(self) -> None:
        before = timezone.now()
        answer = asked(session_of(a_viewer("olga")))
        assert answer.status_code == 201
        given = answer.json()
        assert given.keys() == {"ticket", "expires_at", "subprotocols"}
        assert given["subprotocols"] == ["nexus", f"ticket.{given['ticket']}"]
        expires_at = parse_datetime(given["expires_at"])
        assert expires_at is not None
        assert timedelta(0) <= expires_at - before - timedelta(seconds=TICKET_SECONDS)
        assert answer["Cache-Control"] == "no-store"

    def test_neither_ticket_nor_cookie_can_be_read_from_the_row(self) -> None:
        client = session_of(a_viewer("olga"))
        given = asked(client).json()
        row = Ticket.objects.values().get()
        assert given["ticket"] not in str(row)
        assert len(given["ticket"]) >= 43
        assert len({a_ticket(a_viewer(f"user-{number}")) for number in range(20)}) == 20

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({"execution_id": "known"}, 201),
            ({"execution_id": None}, 201),
            ({"execution_id": "unknown"}, 404),
            ({"execution_id": "-"}, 400),
            ({"execution_id": "a\0b"}, 400),
            ({"execution_id": 7}, 400),
            ({"execution": "known"}, 400),
            (["known"], 400),
        ],
    )
    def test_execution_is_one_that_may_be_viewed(self, body: Any, status: int) -> None:
        answer = asked(session_of(a_viewer("olga")), body)
        assert answer.status_code == status
        assert Ticket.objects.count() == (status == 201)
        if status != 201:
            assert answer.json()["detail"]

    def test_who_may_not_view_cannot_tell_whether_an_execution_exists(self) -> None:
        client = session_of(a_viewer("stranger", may_view=False))
        known = asked(client, {"execution_id": "known"})
        unknown = asked(client, {"execution_id": "unknown"})
        assert known.status_code == unknown.status_code == 404
        assert known.content.replace(b"known", b"unknown") == unknown.content
        assert asked(client).status_code == 201

    def test_the_anonymous_get_none_even_where_reading_is_open(self, settings: Any) -> None:
        settings.NEXUS_OPEN_READING = True
        client = Client()
        for headers in ({}, basic("olga", "x"), by_token("nexus_0").headers):
            assert asked(client, **headers).status_code == 401
        assert not Ticket.objects.exists()

    def test_session_needs_its_csrf_token_and_a_token_does_not(self) -> None:
        olga = a_viewer("olga")
        client = session_of(olga)
        client.handler.enforce_csrf_checks = True
        assert asked(client).status_code == 403
        client.logout()
        answer = asked(client, **by_token(a_token(olga)).headers)
        assert answer.status_code == 201

    def test_only_asking_is_possible(self) -> None:
        client = session_of(a_viewer("olga"))
        assert client.get(TICKETS).status_code == 405
        assert client.post(TICKETS, "x", content_type="text/plain").status_code == 415
        assert (
            client.post(f"{TICKETS}?x=1", "{}", content_type="application/json").status_code == 400
        )
        assert client.post(f"{TICKETS}/", "{}", content_type="application/json").status_code == 201

    def test_too_many_unused_are_refused_until_they_are_used_or_expire(self) -> None:
        olga = a_viewer("olga")
        client = session_of(olga)
        given = [give_ticket(olga, CREDENTIAL, None) for _ in range(TICKETS_PER_USER)]
        with pytest.raises(TooManyTicketsError):
            give_ticket(olga, CREDENTIAL, None)
        answer = asked(client)
        assert answer.status_code == 429
        assert answer["Retry-After"] == str(TICKET_SECONDS)
        assert asked(session_of(a_viewer("ivan"))).status_code == 201
        assert take_ticket(given[0].text)
        assert asked(client).status_code == 201
        Ticket.objects.update(expires_at=timezone.now())
        assert asked(client).status_code == 201
        assert Ticket.objects.count() == 1


class TestTaking:
    """Once, and in time."""

    def test_ticket_is_taken_once_with_what_it_was_given_for(self) -> None:
        text = give_ticket(a_viewer("olga"), CREDENTIAL, "known").text
        with CaptureQueriesContext(connection) as queries:
            taken = take_ticket(text)
        assert taken == (CREDENTIAL, "known")
        words = [each["sql"].split()[0] for each in queries]
        assert [word for word in words if word not in ("BEGIN", "COMMIT")] == ["SELECT", "DELETE"]
        assert take_ticket(text) is None

    @pytest.mark.parametrize("late", [False, True])
    def test_ticket_lasts_until_its_moment(self, late: bool) -> None:
        text = give_ticket(a_viewer("olga"), CREDENTIAL, None).text
        left = timedelta(0) if late else timedelta(seconds=10)
        Ticket.objects.update(expires_at=timezone.now() + left)
        assert (take_ticket(text) is None) == late

    def test_deleting_its_user_deletes_it(self) -> None:
        olga = a_viewer("olga")
        text = a_ticket(olga)
        olga.delete()
        assert take_ticket(text) is None


def test_page_of_another_origin_asks_with_a_token_and_streams_with_the_ticket(
    guarded_web: WebServer, viewers: Viewers
) -> None:
    headers = by_token(a_token(a_viewer("olga"))).headers
    request = urllib.request.Request(  # noqa: S310
        f"{guarded_web.http}{TICKETS}",
        data=b'{"execution_id": "known"}',
        headers={**headers, "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        subprotocols = json.load(answer)["subprotocols"]
    origin = {"Origin": "https://dashboard.example"}
    viewer = viewers.open(guarded_web.stream("known"), origin, subprotocols)
    viewer.wait_for_messages(1)
    assert viewer.subprotocol == "nexus"
    again = viewers.open(guarded_web.stream("known"), origin, subprotocols)
    assert again.wait_for_close() == 4401
    assert viewer.close_code is None


def test_ticket_shown_to_two_processes_at_once_opens_one_stream(
    guarded_web: WebServer, open_web: WebServer
) -> None:
    olga = a_viewer("olga")
    tickets = [a_ticket(olga) for _ in range(25)]

    async def outcome(web: WebServer, ticket: str) -> str:
        offered = [Subprotocol("nexus"), Subprotocol(f"ticket.{ticket}")]
        async with connect(web.stream("known"), subprotocols=offered, proxy=None) as socket:
            try:
                return str(json.loads(await socket.recv())["type"])
            except ConnectionClosed as closed:
                return str(closed.rcvd.code if closed.rcvd else None)

    async def race() -> list[list[str]]:
        return [
            sorted(await asyncio.gather(*(outcome(web, ticket) for web in (guarded_web, open_web))))
            for ticket in tickets
        ]

    assert asyncio.run(race()) == [["4401", "initial_snapshot"]] * len(tickets)


def test_no_log_at_any_verbosity_holds_a_ticket_a_token_or_a_session(
    django_db_setup: None, tmp_path: Path, viewers: Viewers
) -> None:
    olga = a_viewer("olga")
    token, session_key = a_token(olga), session_of(olga).cookies["sessionid"].value
    good, wrong, twice, malformed, odd = (a_ticket(olga) for _ in range(5))
    log = tmp_path / "web.log"
    environment = session_environment(NEXUS_LOG_LEVEL="DEBUG", PYTHONASYNCIODEBUG="1")
    with web_running(log, environment, flags=["-v", "3"]) as web:
        address = web.stream("known")
        for handshake in (
            by_ticket(good),
            by_ticket(good),
            by_ticket(f"{wrong}x"),
            by_token(token),
            by_token(f"{token}x"),
            by_ticket("x", {**by_token(token).headers, **cookie(session_key)}),
        ):
            viewer = viewers.open(address, handshake.headers, handshake.subprotocols)
            viewer.wait_until(lambda each: bool(each.messages) or each.close_code is not None)
        for headers in (
            {"Origin": "https://evil.example", **cookie(session_key)},
            # offered twice; not a version that there is; no text
            {"Sec-WebSocket-Protocol": f"nexus, ticket.{twice}, ticket.{twice}"},
            {"Sec-WebSocket-Protocol": f"ticket.{malformed}", "Sec-WebSocket-Version": "99"},
            {"Sec-WebSocket-Protocol": f"nexus, ticket.{odd}, \xe4"},
        ):
            with pytest.raises(InvalidStatus):
                viewers.open(address, headers)
        request = urllib.request.Request(  # noqa: S310
            f"{web.http}{TICKETS}",
            data=b"{}",
            headers={**by_token(token).headers, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            asked_for = json.load(answer)["ticket"]
    written = log.read_text(errors="replace")
    assert "/api/v1/ws/executions/known" in written
    assert "level='debug'" in written
    for secret in (good, wrong, twice, malformed, odd, token, session_key, asked_for):
        assert secret not in written
