"""Those who ask for executions, and the asking: for tests of REST and of the admin."""

from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

JsonObject = dict[str, Any]

PASSWORD = "correct horse"


def a_user(name: str, *, may_view: bool = False, is_staff: bool = False) -> User:
    """A new user whose password is PASSWORD."""
    user = User.objects.create_user(name, password=PASSWORD, is_staff=is_staff)
    if may_view:
        user.user_permissions.add(Permission.objects.get(codename="view_execution"))
    return user


def client_of(user: User | None) -> Client:
    """A client that is logged in as the user, or as nobody; errors come to it as answers."""
    client = Client(raise_request_exception=False)
    if user is not None:
        client.force_login(user)
    return client


def an_operator_client() -> Client:
    """The client of a new user who may view executions and enter the admin."""
    return client_of(a_user("operator", may_view=True, is_staff=True))
