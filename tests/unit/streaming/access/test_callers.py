"""What a handshake claims, and whose handshake is refused for its Origin."""

import asyncio
from typing import Any

import pytest

from streaming.access.callers import (
    CLAIM,
    Callers,
    Claim,
    SessionClaim,
    TicketClaim,
    TokenClaim,
    claim_of,
)

SESSION = {b"cookie": "csrftoken=x; sessionid=s3ss10n; theme=dark"}
TOKEN = {b"authorization": "Token nexus_abc"}


@pytest.mark.parametrize(
    ("headers", "subprotocols", "claim"),
    [
        ({}, [], None),
        ({b"cookie": "theme=dark"}, ["nexus"], None),
        ({b"cookie": "sessionid="}, [], None),
        ({b"authorization": "Basic b2xnYTp4"}, [], None),
        ({}, ["nexus", "ticketing", "Ticket.x"], None),
        (SESSION, [], SessionClaim("s3ss10n")),
        (TOKEN, [], TokenClaim("nexus_abc")),
        ({b"authorization": "token  nexus_abc "}, [], TokenClaim("nexus_abc")),
        ({b"authorization": "Token"}, [], TokenClaim("")),
        ({}, ["nexus", "ticket.abc"], TicketClaim("abc")),
        ({}, ["ticket."], TicketClaim("")),
        # what is not ambient is meant: nothing else is looked at
        ({**SESSION, **TOKEN}, [], TokenClaim("nexus_abc")),
        ({**SESSION, b"authorization": "Token"}, [], TokenClaim("")),
        ({**SESSION, b"authorization": "Basic x"}, [], SessionClaim("s3ss10n")),
        ({**SESSION, **TOKEN}, ["nexus", "ticket.abc"], TicketClaim("abc")),
        ({**SESSION, **TOKEN}, ["ticket."], TicketClaim("")),
    ],
)
def test_handshake_claims_the_ticket_else_the_token_else_the_session(
    headers: dict[bytes, str], subprotocols: list[str], claim: Claim | None
) -> None:
    assert claim_of(headers, subprotocols) == claim


@pytest.mark.parametrize(
    "claim", [TokenClaim("s3cr3t"), TicketClaim("s3cr3t"), SessionClaim("s3cr3t")]
)
def test_secrets_show_in_no_trace(claim: Claim) -> None:
    assert "s3cr3t" not in f"{claim!r} {claim}"


class TestMiddleware:
    """What the headers of a handshake lead to."""

    HOST = (b"host", b"127.0.0.1:8000")
    OWN = (b"origin", b"http://127.0.0.1:8000")
    FOREIGN = (b"origin", b"https://evil.example")
    COOKIE = (b"cookie", b"sessionid=s3ss10n")

    def answered(self, *headers: tuple[bytes, bytes], subprotocols: Any = ()) -> list[Any]:
        """What is answered; where the application is reached, the claim it is given."""
        sent: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            sent.append(scope[CLAIM])

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message["type"])

        scope = {"headers": [self.HOST, *headers], "subprotocols": list(subprotocols)}
        asyncio.run(Callers(application)(scope, receive, send))
        return sent

    def test_own_page_and_programs_reach_the_application_with_their_claim(self) -> None:
        assert self.answered() == [None]
        assert self.answered(self.OWN) == [None]
        assert self.answered(self.OWN, self.COOKIE) == [SessionClaim("s3ss10n")]
        assert self.answered(self.COOKIE) == [SessionClaim("s3ss10n")]

    @pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"", b"\xff\xfe"])
    @pytest.mark.parametrize("cookie", [True, False])
    def test_foreign_page_is_refused_before_the_connection_opens(
        self, origin: bytes, cookie: bool
    ) -> None:
        headers = [(b"origin", origin), *([self.COOKIE] if cookie else [])]
        assert self.answered(*headers) == ["websocket.close"]
        assert self.answered(*headers, subprotocols=["nexus"]) == ["websocket.close"]

    def test_foreign_page_with_a_token_or_ticket_reaches_the_application_without_its_cookie(
        self,
    ) -> None:
        token = (b"authorization", b"Token nexus_abc")
        assert self.answered(self.FOREIGN, self.COOKIE, token) == [TokenClaim("nexus_abc")]
        assert self.answered(self.FOREIGN, self.COOKIE, subprotocols=["nexus", "ticket.abc"]) == [
            TicketClaim("abc")
        ]

    def test_allowed_origins_come_from_the_settings(self, settings: Any) -> None:
        dashboard = (b"origin", b"https://dashboard.example")
        assert self.answered(dashboard, self.COOKIE) == ["websocket.close"]
        settings.CSRF_TRUSTED_ORIGINS = ["https://dashboard.example"]
        assert self.answered(dashboard, self.COOKIE) == [SessionClaim("s3ss10n")]
