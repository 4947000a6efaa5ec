"""Tokens of programs: making them, and which ones a user has. Whose a text is: `api`."""

from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.contrib.auth.models import AbstractUser
from django.db.models import Q, QuerySet
from django.utils import timezone
from knox.models import AbstractAuthToken, get_token_model
from knox.settings import knox_settings

MOST_DAYS: Final = 36_500
"""What may be asked for, whatever is allowed."""


class TokenLifetimeError(ValueError):
    """A token was asked for that would live too long."""

    def __init__(self, longest: timedelta) -> None:
        super().__init__(f"A token lives {longest / timedelta(days=1):g} days at most.")


class TooManyTokensError(Exception):
    """The user has as many tokens as one may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"There are {limit} tokens already, which is the limit: revoke one first.")


class NewToken(NamedTuple):
    """A token's row, and its text, which nothing can tell again."""

    row: AbstractAuthToken
    text: str


def create_token(user: AbstractUser, lifetime: timedelta | None = None) -> NewToken:
    """Make a token that lives so long, or as long as tokens may: REST_KNOX's TOKEN_TTL.

    Deletes the user's expired tokens. Raises TokenLifetimeError and TooManyTokensError.
    """
    longest, limit = knox_settings.TOKEN_TTL, knox_settings.TOKEN_LIMIT_PER_USER
    if lifetime is not None and longest is not None and lifetime > longest:
        raise TokenLifetimeError(longest)
    tokens = get_token_model().objects.filter(user=user)
    tokens.filter(expiry__lte=timezone.now()).delete()
    if limit is not None and tokens.count() >= limit:
        raise TooManyTokensError(limit)
    return NewToken(*get_token_model().objects.create(user, expiry=lifetime or longest))


def tokens_of(user: AbstractUser) -> "QuerySet[Any]":
    """The user's tokens that are good for something."""
    rows: QuerySet[Any] = get_token_model().objects.filter(user=user)
    return rows.filter(unexpired()).order_by("created", "digest")


def unexpired() -> Q:
    """A condition on tokens that holds for those that have not expired by now."""
    return Q(expiry__gt=timezone.now()) | Q(expiry=None)
