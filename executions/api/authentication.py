"""Who is asking: a program's token, the session of the admin, or, for tokens, a password."""

from typing import Any, NamedTuple

import knox.auth
from django.contrib.auth.models import AbstractUser
from drf_spectacular.authentication import BasicScheme
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from knox.crypto import hash_token
from knox.models import AbstractAuthToken, get_token_model
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from executions.api.password_attempts import count_attempt
from executions.tokens import unexpired


class TokenHolder(NamedTuple):
    user: AbstractUser
    token: AbstractAuthToken


def user_of_token(text: str) -> TokenHolder | None:
    """The active user whose token this is, and the token's row; None for anything else.

    Any text may be given. An expired token is no token; so is a revoked one, whose row is
    gone. Reads the database once, and writes nothing: synchronous code only.
    """
    # Its digest is the row's key: no text of the client's reaches the database.
    if not text.isascii():
        return None
    rows = get_token_model().objects.select_related("user")
    token = rows.filter(unexpired(), digest=hash_token(text)).first()
    if token is None or not token.user.is_active:
        return None
    return TokenHolder(token.user, token)


class TokenAuthentication(knox.auth.TokenAuthentication):  # type: ignore[misc]
    """`Authorization: Token nexus_…`; all that is no valid token fails alike."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        # Headers arrive as Latin-1: each byte is a character.
        holder = user_of_token(token.decode("latin-1"))
        if holder is None:
            raise AuthenticationFailed("The token is not valid: unknown, expired or revoked.")
        return holder


class BasicAuthentication(authentication.BasicAuthentication):
    """HTTP Basic (RFC 7617), for what passwords are for; raises Throttled where they are guessed.

    A name that no user can have fails like any other wrong one.
    """

    www_authenticate_realm = "Nexus"

    def authenticate_credentials(
        self, userid: str, password: str, request: Request | None = None
    ) -> tuple[Any, Any]:
        # PostgreSQL would fail at being asked for a name with NUL.
        if "\0" in userid:
            raise AuthenticationFailed
        if request is not None:
            count_attempt(request, userid)
        return super().authenticate_credentials(userid, password, request)


# For the OpenAPI document


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = f"{__name__}.TokenAuthentication"
    name = "tokenAuth"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Token nexus_…`; POST /api/v1/tokens gives one.",
        }


class BasicAuthenticationScheme(BasicScheme):  # type: ignore[no-untyped-call]
    target_class = f"{__name__}.BasicAuthentication"
    priority = 0
