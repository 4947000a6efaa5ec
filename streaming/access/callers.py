"""Who opens a WebSocket: what the handshake claims, and taking the claim at its word or not.

Three credentials: a token (`Authorization: Token …`), a ticket (`Sec-WebSocket-Protocol:
nexus, ticket.…`), a session's cookie. A browser sends the cookie along with whatever page
asks, so it counts for nothing from a page of another site; a token or a ticket that is
wrong is wrong, whatever cookie came with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import parse_cookie

from streaming.access.credentials import Credential, session_credential, token_credential, users_of
from streaming.access.origins import origin_is_allowed
from streaming.access.tickets import TICKET_PREFIX, take_ticket
from streaming.gathered_reads import GatheredReads

SUBPROTOCOL: Final = "nexus"
"""What the server selects of the subprotocols offered; never the ticket beside it."""

CLAIM: Final = "nexus_claim"
"""Where the scope holds what the handshake claims: a Claim, or None for no credential."""


@dataclass(frozen=True)
class TokenClaim:
    """The text of what should be a token; empty for an Authorization that holds none."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class TicketClaim:
    """The text of what should be a ticket."""

    text: str = field(repr=False)


@dataclass(frozen=True)
class SessionClaim:
    """The session key in the cookie."""

    session_key: str = field(repr=False)


Claim = TokenClaim | TicketClaim | SessionClaim


@dataclass(frozen=True)
class Standing:
    """What a claim has turned out to stand on; a ticket may be for one execution alone."""

    credential: Credential
    execution_id: str | None = None


class Callers:
    """ASGI middleware for WebSockets: puts the claim into the scope, and reads no database.

    A page of another site that brings neither token nor ticket gets HTTP 403 instead of a
    connection.
    """

    def __init__(self, application: Any) -> None:
        self._application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        # In a function of its own: what it holds would be held for as long as the connection.
        scope = _with_claim(scope)
        if scope is None:
            # Not channels' WebsocketDenier: it subscribes to the channel layer to say no.
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._application(scope, receive, send)


def _with_claim(scope: Any) -> dict[str, Any] | None:
    """The scope with what its handshake claims; None for a page that may not claim it."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    claim = claim_of(headers, scope.get("subprotocols", ()))
    if claim is None or isinstance(claim, SessionClaim):
        allowed = origin_is_allowed(
            headers.get(b"origin"),
            headers.get(b"host"),
            settings.ALLOWED_HOSTS,
            settings.CSRF_TRUSTED_ORIGINS,
        )
        if not allowed:
            return None
    return {**scope, CLAIM: claim}


def claim_of(headers: dict[bytes, str], subprotocols: Iterable[str]) -> Claim | None:
    """What the handshake claims: the ticket, else the token, else the session."""
    for offered in subprotocols:
        if offered.startswith(TICKET_PREFIX):
            return TicketClaim(offered.removeprefix(TICKET_PREFIX))
    scheme, _, text = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "token":
        return TokenClaim(text.strip())
    session_key = parse_cookie(headers.get(b"cookie", "")).get(settings.SESSION_COOKIE_NAME)
    return SessionClaim(session_key) if session_key else None


async def standing_of(claim: Claim) -> Standing | None:
    """What the claim stands on, if it holds; None for a ticket that is none.

    Takes the ticket: it is used from here on.
    """
    match claim:
        case SessionClaim(session_key):
            return Standing(session_credential(session_key))
        case TokenClaim(text):
            return Standing(token_credential(text))
        case TicketClaim(text):
            taken = await _take_ticket(text)
            return None if taken is None else Standing(taken.credential, taken.execution_id)


async def user_of(credential: Credential) -> AbstractUser | None:
    """Whose the credential is; None if it does not hold."""
    return await _users.get(credential)


_take_ticket = database_sync_to_async(take_ticket, thread_sensitive=False)

_users = GatheredReads(database_sync_to_async(users_of, thread_sensitive=False))
