"""Who may open a socket: every credential, in every state, from every origin."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_hex

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from knox.models import AuthToken
from websockets.exceptions import InvalidStatus

from streaming.models import Ticket
from tests.integration.socket_callers import (
    Handshake,
    a_session_ticket,
    a_ticket,
    a_token,
    a_viewer,
    by_session,
    by_ticket,
    by_token,
    cookie,
)
from tests.rest import basic
from tests.samples import an_execution
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer
from tests.truth import nobody_listening
from tests.viewers import Viewers

pytestmark = [pytest.mark.database, pytest.mark.django_db(transaction=True)]

STREAMS = "streams"
FORBIDDEN = "403"
KNOWN, UNKNOWN = "known", "unknown"


@pytest.fixture(autouse=True)
def known_execution(valkey: ValkeyServer) -> Iterator[None]:
    with nobody_listening():
        an_execution("fetch", execution_id=KNOWN)
        yield


@dataclass
class Cast:
    """The users of one test, made when they are first needed."""

    users: dict[str, User] = field(default_factory=dict)

    def user(self, name: str) -> User:
        if name not in self.users:
            self.users[name] = a_viewer(name, may_view=name != "stranger")
        return self.users[name]

    @property
    def olga(self) -> User:
        return self.user("olga")

    @property
    def stranger(self) -> User:
        return self.user("stranger")


def inactive(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def session_of_inactive(cast: Cast) -> Handshake:
    handshake = by_session(cast.user("inactive"))
    inactive(cast.user("inactive"))
    return handshake


def expired_session(cast: Cast) -> Handshake:
    user = cast.user("expired")
    handshake = by_session(user)
    key = handshake.headers["Cookie"].rpartition("=")[2]
    Session.objects.filter(pk=key).update(expire_date=timezone.now())
    return handshake


def session_of_another_password(cast: Cast) -> Handshake:
    handshake = by_session(cast.user("changed"))
    User.objects.filter(username="changed").update(password=token_hex(8))
    return handshake


def token_of_inactive(cast: Cast) -> Handshake:
    handshake = by_token(a_token(cast.user("inactive")))
    inactive(cast.user("inactive"))
    return handshake


def revoked_token(cast: Cast) -> Handshake:
    text = a_token(cast.user("revoked"))
    AuthToken.objects.filter(user__username="revoked").delete()
    return by_token(text)


def used_ticket(cast: Cast) -> Handshake:
    text = a_ticket(cast.olga)
    Ticket.objects.all().delete()
    return by_ticket(text)


def expired_ticket(cast: Cast) -> Handshake:
    text = a_ticket(cast.user("late"))
    Ticket.objects.filter(user__username="late").update(expires_at=timezone.now())
    return by_ticket(text)


def ticket_of_revoked_token(cast: Cast) -> Handshake:
    text = a_ticket(cast.user("revoked"))
    AuthToken.objects.filter(user__username="revoked").delete()
    return by_ticket(text)


def ticket_of_ended_session(cast: Cast) -> Handshake:
    text = a_session_ticket(cast.user("gone"))
    Session.objects.all().delete()
    return by_ticket(text)


def ticket_of_inactive(cast: Cast) -> Handshake:
    text = a_ticket(cast.user("inactive"))
    inactive(cast.user("inactive"))
    return by_ticket(text)


def with_olgas_cookie(handshake: Handshake, cast: Cast) -> Handshake:
    return Handshake({**by_session(cast.olga).headers, **handshake.headers}, handshake.subprotocols)


Expected = tuple[str, str, str]
"""Of the known execution; of an unknown one; from a foreign origin, of the known one."""

CALLERS: dict[str, tuple[Callable[[Cast], Handshake], Expected]] = {
    "nothing": (lambda cast: Handshake(), ("4401", "4401", FORBIDDEN)),
    "Basic": (lambda cast: Handshake(basic("olga", "x")), ("4401", "4401", FORBIDDEN)),
    # by a session's cookie
    "unknown session": (
        lambda cast: Handshake(cookie("0123456789abcdef")),
        ("4401", "4401", FORBIDDEN),
    ),
    "nonsense for a session": (
        lambda cast: Handshake(cookie('"\\000\\377')),
        ("4401", "4401", FORBIDDEN),
    ),
    "expired session": (expired_session, ("4401", "4401", FORBIDDEN)),
    "session of another password": (session_of_another_password, ("4401", "4401", FORBIDDEN)),
    "session of an inactive user": (session_of_inactive, ("4401", "4401", FORBIDDEN)),
    "session, may not view": (lambda cast: by_session(cast.stranger), ("4404", "4404", FORBIDDEN)),
    "session, may view": (lambda cast: by_session(cast.olga), (STREAMS, "4404", FORBIDDEN)),
    # by a token
    "unknown token": (lambda cast: by_token("nexus_" + "0" * 64), ("4401", "4401", "4401")),
    "no token after Token": (lambda cast: by_token(""), ("4401", "4401", "4401")),
    "nonsense for a token": (lambda cast: by_token("\xe4 %00\t;"), ("4401", "4401", "4401")),
    "expired token": (
        lambda cast: by_token(a_token(cast.olga, timedelta(0))),
        ("4401", "4401", "4401"),
    ),
    "revoked token": (revoked_token, ("4401", "4401", "4401")),
    "token of an inactive user": (token_of_inactive, ("4401", "4401", "4401")),
    "token, may not view": (
        lambda cast: by_token(a_token(cast.stranger)),
        ("4404", "4404", "4404"),
    ),
    "token, may view": (lambda cast: by_token(a_token(cast.olga)), (STREAMS, "4404", STREAMS)),
    "wrong token beside a good cookie": (
        lambda cast: with_olgas_cookie(by_token("nexus_0"), cast),
        ("4401", "4401", "4401"),
    ),
    # by a ticket
    "unknown ticket": (lambda cast: by_ticket("x" * 43), ("4401", "4401", "4401")),
    "no ticket after ticket.": (lambda cast: by_ticket(""), ("4401", "4401", "4401")),
    "used ticket": (used_ticket, ("4401", "4401", "4401")),
    "expired ticket": (expired_ticket, ("4401", "4401", "4401")),
    "ticket of a revoked token": (ticket_of_revoked_token, ("4401", "4401", "4401")),
    "ticket of a session that has ended": (ticket_of_ended_session, ("4401", "4401", "4401")),
    "ticket of an inactive user": (ticket_of_inactive, ("4401", "4401", "4401")),
    "ticket, may not view": (
        lambda cast: by_ticket(a_ticket(cast.stranger)),
        ("4404", "4404", "4404"),
    ),
    "ticket, may view": (lambda cast: by_ticket(a_ticket(cast.olga)), (STREAMS, "4404", STREAMS)),
    "ticket of a session": (
        lambda cast: by_ticket(a_session_ticket(cast.olga)),
        (STREAMS, "4404", STREAMS),
    ),
    "ticket for this execution": (
        lambda cast: by_ticket(a_ticket(cast.olga, KNOWN)),
        (STREAMS, "4404", STREAMS),
    ),
    "ticket for another execution": (
        lambda cast: by_ticket(a_ticket(cast.olga, "other")),
        ("4404", "4404", "4404"),
    ),
    "wrong ticket beside a good cookie and token": (
        lambda cast: with_olgas_cookie(by_ticket("x", by_token(a_token(cast.olga)).headers), cast),
        ("4401", "4401", "4401"),
    ),
}


def outcome(
    web: WebServer, viewers: Viewers, handshake: Handshake, execution_id: str, origin: str | None
) -> str:
    headers = {**handshake.headers, **({} if origin is None else {"Origin": origin})}
    try:
        viewer = viewers.open(web.stream(execution_id), headers, handshake.subprotocols)
    except InvalidStatus as refusal:
        return str(refusal.response.status_code)
    viewer.wait_until(lambda each: bool(each.messages) or each.close_code is not None)
    assert viewer.subprotocol == (None if handshake.subprotocols is None else "nexus")
    if viewer.messages:
        assert viewer.types[0] == "initial_snapshot"
        viewer.leave()
        return STREAMS
    return str(viewer.close_code)


@pytest.mark.parametrize("caller", CALLERS)
def test_everyone_gets_what_is_theirs_and_nothing_else(
    guarded_web: WebServer, viewers: Viewers, caller: str
) -> None:
    make, (of_known, of_unknown, from_foreign_page) = CALLERS[caller]
    expected = {
        (KNOWN, None): of_known,
        (KNOWN, guarded_web.http): of_known,
        (UNKNOWN, None): of_unknown,
        (KNOWN, "https://evil.example"): from_foreign_page,
    }
    found = {}
    for execution_id, origin in expected:
        with_handshake = make(Cast({user.username: user for user in User.objects.all()}))
        found[execution_id, origin] = outcome(
            guarded_web, viewers, with_handshake, execution_id, origin
        )
    assert found == expected


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("nothing", STREAMS),
        ("unknown session", STREAMS),
        ("expired session", STREAMS),
        ("session, may not view", STREAMS),
        ("token, may not view", STREAMS),
        # whoever shows a credential is told when it is none
        ("unknown token", "4401"),
        ("used ticket", "4401"),
        ("ticket for another execution", "4404"),
    ],
)
def test_where_reading_is_open_a_wrong_credential_is_still_wrong(
    open_web: WebServer, viewers: Viewers, caller: str, expected: str
) -> None:
    handshake = CALLERS[caller][0](Cast())
    assert outcome(open_web, viewers, handshake, KNOWN, None) == expected
