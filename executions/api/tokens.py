"""/api/v1/tokens: one's own tokens, got and given up by a password or the admin's session.

Never by a token: whoever steals one can neither prolong it nor take the others away.
"""

from datetime import timedelta
from typing import Annotated, Any, ClassVar, Final, cast

import msgspec
import structlog
from django.conf import settings
from django.contrib.auth.models import AbstractUser
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from knox.models import AbstractAuthToken
from rest_framework import serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import APIException, NotFound, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api.answering import ERRORS, ExecutionsApiView, decoded_body
from executions.api.authentication import BasicAuthentication
from executions.api.errors import BadBodyError
from executions.api.serializers import MOMENT, ErrorSerializer
from executions.document import JsonObject, rfc3339
from executions.tokens import (
    MOST_DAYS,
    TokenLifetimeError,
    TooManyTokensError,
    create_token,
    tokens_of,
)

log = structlog.get_logger(__name__)


class TokenLimitError(APIException):
    """The caller has as many tokens as one may have."""

    status_code = 409


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    days: Annotated[int, msgspec.Meta(ge=1, le=MOST_DAYS)] | None = None


class _OwnTokensView(ExecutionsApiView):
    authentication_classes = (BasicAuthentication, SessionAuthentication)
    permission_classes = (IsAuthenticated,)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        # Browsers add Basic credentials to what other sites' pages send, and DRF asks for
        # a CSRF token only where a session lets in.
        origin = request.headers.get("Origin")
        if (
            origin is not None
            and origin.partition("://")[2] != request.get_host()
            and origin not in settings.CSRF_TRUSTED_ORIGINS
        ):
            raise PermissionDenied("A page of another site may not act here.")

    @property
    def caller(self) -> AbstractUser:
        return cast(AbstractUser, self.request.user)


# For the OpenAPI document


class _TokenSerializer(serializers.Serializer[JsonObject]):
    token_key = serializers.CharField(help_text="The token's beginning, by which it is named.")
    expires_at = serializers.DateTimeField(
        allow_null=True, help_text=f"From then on it is no token; null: never. {MOMENT}"
    )


class TokenListedSerializer(_TokenSerializer):
    created_at = serializers.DateTimeField(help_text=MOMENT)


class TokenCreatedSerializer(_TokenSerializer):
    token = serializers.CharField(help_text="Shown this once.")


class TokensSerializer(serializers.Serializer[JsonObject]):
    results = TokenListedSerializer(many=True, help_text="Oldest first.")


class TokenRequestSerializer(serializers.Serializer[JsonObject]):
    days = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=1,
        max_value=MOST_DAYS,
        help_text="How long it lives; as long as tokens may unless said, and never longer.",
    )


_ERRORS: Final = {
    **{status: told for status, told in ERRORS.items() if status != 404},
    400: OpenApiResponse(ErrorSerializer, "A parameter or the body is malformed."),
    403: OpenApiResponse(ErrorSerializer, "A CSRF token is missing, or another site's page asks."),
    429: OpenApiResponse(ErrorSerializer, "Passwords were tried too often."),
}
_RETRY_AFTER: Final = OpenApiParameter(
    "Retry-After",
    int,
    OpenApiParameter.HEADER,
    required=True,
    response=[429],
    description="Seconds to wait before asking again.",
)


class TokensView(_OwnTokensView):
    http_method_names: ClassVar[list[str]] = ["get", "head", "post"]  # type: ignore[misc]

    @extend_schema(
        operation_id="listTokens",
        summary="List your tokens",
        description="Those that have not expired.",
        parameters=[_RETRY_AFTER],
        responses={200: TokensSerializer, **_ERRORS},
    )
    def get(self, request: Request) -> Response:
        listed = [
            {**_fields(token), "created_at": rfc3339(token.created)}
            for token in tokens_of(self.caller)
        ]
        return Response({"results": listed})

    @extend_schema(
        operation_id="createToken",
        summary="Get a token",
        description=(
            "For a program's requests: it sends the token as `Authorization: Token nexus_…`, and "
            "may what you may. Here your password is asked for, or a session with its CSRF token."
        ),
        parameters=[_RETRY_AFTER],
        request={"application/json": TokenRequestSerializer},
        responses={
            201: TokenCreatedSerializer,
            **_ERRORS,
            409: OpenApiResponse(ErrorSerializer, "You have as many tokens as one may have."),
            415: OpenApiResponse(ErrorSerializer, "The body is not JSON."),
        },
    )
    def post(self, request: Request) -> Response:
        body = decoded_body(
            request, _Body, f"a JSON object with nothing but days, a number from 1 to {MOST_DAYS:,}"
        )
        lifetime = None if body.days is None else timedelta(days=body.days)
        try:
            token = create_token(self.caller, lifetime)
        except TokenLifetimeError as error:
            raise BadBodyError(str(error)) from None
        except TooManyTokensError as error:
            raise TokenLimitError(str(error)) from None
        log.info("token_created", by=self.caller.pk, token_key=token.row.token_key)
        return Response({"token": token.text, **_fields(token.row)}, status=201)


class TokenView(_OwnTokensView):
    http_method_names: ClassVar[list[str]] = ["delete"]  # type: ignore[misc]

    @extend_schema(
        operation_id="revokeToken",
        summary="Revoke one of your tokens",
        parameters=[_RETRY_AFTER],
        responses={
            204: None,
            **_ERRORS,
            404: OpenApiResponse(ErrorSerializer, "You have no such token."),
        },
    )
    def delete(self, request: Request, token_key: str) -> Response:
        deleted, _ = tokens_of(self.caller).filter(token_key=token_key).delete()
        if not deleted:
            raise NotFound(f"You have no token {token_key[:80]!r}.")
        log.info("token_revoked", by=self.caller.pk, token_key=token_key)
        return Response(status=204)


def _fields(token: AbstractAuthToken) -> JsonObject:
    return {"token_key": token.token_key, "expires_at": rfc3339(token.expiry)}
