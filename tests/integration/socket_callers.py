"""Those who open sockets: users with what they may, and each with each credential."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple

from django.contrib.auth.models import Permission, User
from django.test import Client
from knox.models import AuthToken

from streaming.access.credentials import session_credential, token_credential
from streaming.access.tickets import give_ticket


class Handshake(NamedTuple):
    """What a client sends when it opens a socket."""

    headers: Mapping[str, str] = {}
    subprotocols: Sequence[str] | None = None


def a_viewer(name: str, *, may_view: bool = True) -> User:
    """A new user, without a password, who may view executions or may not."""
    user = User.objects.create_user(name)
    if may_view:
        user.user_permissions.add(Permission.objects.get(codename="view_execution"))
    return user


def session_of(user: User) -> Client:
    """A client that has logged in as the user."""
    client = Client()
    client.force_login(user)
    return client


def cookie(session_key: str) -> dict[str, str]:
    return {"Cookie": f"theme=dark; sessionid={session_key}"}


def by_session(user: User) -> Handshake:
    return Handshake(cookie(session_of(user).cookies["sessionid"].value))


def a_token(user: User, lifetime: timedelta | None = None) -> str:
    """A new token's text."""
    _, text = AuthToken.objects.create(user, expiry=lifetime)
    return str(text)


def by_token(text: str) -> Handshake:
    return Handshake({"Authorization": f"Token {text}"})


def by_ticket(text: str, headers: Mapping[str, str] | None = None) -> Handshake:
    return Handshake(headers or {}, ["nexus", f"ticket.{text}"])


def a_ticket(user: User, execution_id: str | None = None) -> str:
    """A new ticket's text, asked for with a new token of the user."""
    return give_ticket(user, token_credential(a_token(user)), execution_id).text


def a_session_ticket(user: User) -> str:
    """A new ticket's text, asked for in a new session of the user."""
    key = session_of(user).cookies["sessionid"].value
    return give_ticket(user, session_credential(key), None).text
