"""Those who ask for executions, and the asking: for tests of REST and of the admin."""

from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

from executions.tokens import create_token

JsonObject = dict[str, Any]

PASSWORD = "correct horse"


def a_user(
    name: str, *, may_view: bool = False, may: Iterable[str] = (), is_staff: bool = False
) -> User:
    """A new user whose password is PASSWORD; `may` holds such as "cancel"."""
    user = User.objects.create_user(name, password=PASSWORD, is_staff=is_staff)
    for verb in [*may, *(["view"] if may_view else [])]:
        user.user_permissions.add(Permission.objects.get(codename=f"{verb}_execution"))
    return user


def basic(name: str, password: str) -> dict[str, str]:
    """The header with which a name and a password are given."""
    return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}


def a_token(user: User) -> str:
    """A token of the user's that lives as long as tokens may."""
    return create_token(user).text


def with_token(text: str) -> dict[str, str]:
    """The header with which a token is given."""
    return {"Authorization": f"Token {text}"}


def client_of(user: User | None) -> Client:
    """A client that is logged in as the user, or as nobody; errors come to it as answers."""
    client = Client(raise_request_exception=False)
    if user is not None:
        client.force_login(user)
    return client


def an_operator_client() -> Client:
    """The client of a new user who may view executions and enter the admin."""
    return client_of(a_user("operator", may_view=True, is_staff=True))
