"""Viewers who have to say who they are: users with a token each, and a server that asks."""

import re
import urllib.request
from typing import Final

from tests.benchmarks.side_by_side.writing import many_allowed
from tests.servers.web import WebServer

USERS: Final = 499
"""A prime number: taken in turn, they meet each of a round number of executions."""

_METRIC: Final = r"^{} ([\d.e+]+)$"


def asking_environment() -> dict[str, str]:
    """The environment of a web process that lets in who has a token, as many as come."""
    return {**many_allowed(), "NEXUS_OPEN_READING": "0"}


def tokens_of_users(users: int = USERS) -> list[str]:
    """A token of each of so many users, made here, who may view all executions and metrics."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Permission
    from django.db import transaction

    from executions.tokens import create_token

    rights = Permission.objects.filter(codename__in=("view_execution", "view_metrics"))
    tokens = []
    with transaction.atomic():
        for number in range(users):
            user = get_user_model().objects.create_user(f"viewer-{number}")
            user.user_permissions.set(rights)
            tokens.append(create_token(user).text)
    return tokens


def metric(web: WebServer, token: str, name: str) -> float:
    """A metric of the web process that has no labels."""
    request = urllib.request.Request(f"{web.http}/metrics")  # noqa: S310
    request.add_header("Authorization", f"Token {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        found = re.search(_METRIC.format(name), answer.read().decode(), re.M)
    if found is None:
        raise LookupError(f"the web process has no metric {name}")
    return float(found[1])
