"""POST /api/v1/tickets: a permit to open one stream, for pages that can send nothing else."""

from typing import ClassVar, Final, cast

import msgspec
from django.contrib.auth.models import AbstractUser
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from executions.access import may_view
from executions.api.answering import ERRORS, ExecutionsApiView, decoded_body, no_execution
from executions.api.errors import BadBodyError
from executions.api.serializers import MOMENT, ErrorSerializer
from executions.document import JsonObject, rfc3339
from executions.identifiers import EXECUTION_ID_FORM, is_execution_id
from executions.models import Execution
from streaming.access.callers import SUBPROTOCOL
from streaming.access.credentials import credential_of_request
from streaming.access.tickets import TICKET_PREFIX, TICKET_SECONDS, TooManyTicketsError, give_ticket

_BODY_FORM: Final = f"a JSON object with nothing but an execution_id ({EXECUTION_ID_FORM})"


class TicketLimitError(APIException):
    """The caller has as many tickets as one may have."""

    status_code = 429
    wait = TICKET_SECONDS  # which DRF makes the Retry-After header of


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    execution_id: str | None = None


# For the OpenAPI document


class TicketRequestSerializer(serializers.Serializer[JsonObject]):
    execution_id = serializers.RegexField(
        f"^{EXECUTION_ID_FORM}$",
        required=False,
        allow_null=True,
        help_text="The only execution that the ticket is for; any that you may view unless said.",
    )


class TicketSerializer(serializers.Serializer[JsonObject]):
    ticket = serializers.CharField(help_text="Shown this once.")
    expires_at = serializers.DateTimeField(help_text=f"From then on it is no ticket. {MOMENT}")
    subprotocols = serializers.ListField(
        child=serializers.CharField(),
        help_text="What to offer as the WebSocket's subprotocols: `new WebSocket(url, these)`.",
    )


class TicketsView(ExecutionsApiView):
    permission_classes = (IsAuthenticated,)
    http_method_names: ClassVar[list[str]] = ["post"]  # type: ignore[misc]

    @extend_schema(
        operation_id="createTicket",
        summary="Get a ticket for a stream",
        description=(
            f"It opens one WebSocket within {TICKET_SECONDS} seconds, from a page of any origin. "
            "The connection lasts no longer than the session or token that it was asked with."
        ),
        parameters=[
            OpenApiParameter(
                "Retry-After",
                int,
                OpenApiParameter.HEADER,
                required=True,
                response=[429],
                description="Seconds to wait before asking again.",
            ),
        ],
        request={"application/json": TicketRequestSerializer},
        responses={
            201: TicketSerializer,
            400: OpenApiResponse(ErrorSerializer, "A parameter or the body is malformed."),
            403: OpenApiResponse(ErrorSerializer, "A CSRF token is missing."),
            415: OpenApiResponse(ErrorSerializer, "The body is not JSON."),
            429: OpenApiResponse(ErrorSerializer, "You have too many unused tickets."),
            **ERRORS,
        },
    )
    def post(self, request: Request) -> Response:
        execution_id = decoded_body(request, _Body, _BODY_FORM).execution_id
        user = cast(AbstractUser, request.user)
        if execution_id is not None:
            if not is_execution_id(execution_id):
                raise BadBodyError(f"The body must be {_BODY_FORM}")
            if not (
                may_view(user, execution_id) and Execution.objects.filter(pk=execution_id).exists()
            ):
                raise no_execution(execution_id)
        try:
            given = give_ticket(user, credential_of_request(request), execution_id)
        except TooManyTicketsError as error:
            raise TicketLimitError(str(error)) from None
        return Response(
            {
                "ticket": given.text,
                "expires_at": rfc3339(given.expires_at),
                "subprotocols": [SUBPROTOCOL, f"{TICKET_PREFIX}{given.text}"],
            },
            status=201,
        )
