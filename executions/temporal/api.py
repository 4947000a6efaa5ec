"""POST /api/v1/executions/{execution_id}/cancel and /terminate: acting on a run of Temporal."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Final, TypeVar

import msgspec
import structlog
from django.conf import settings
from django.db import close_old_connections
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions import access
from executions.api.answering import (
    ERRORS,
    EXECUTION_ID,
    ExecutionsApiView,
    MayView,
    decoded_body,
    no_execution,
)
from executions.api.errors import BadBodyError
from executions.api.serializers import ErrorSerializer
from executions.document import JsonObject
from executions.models import Execution
from executions.statuses import ExecutionStatus
from executions.temporal import acting
from executions.temporal.acting import Act, RunRequest, UnknownRunError
from executions.temporal.connecting import TemporalUnreachableError

log = structlog.get_logger(__name__)

ViewT = TypeVar("ViewT", bound=Callable[..., Response])

ANSWER_SECONDS: Final = 5.0
"""How long Temporal has to be reached and to answer."""

RETRY_AFTER_SECONDS: Final = 5
REASON_CHARACTERS: Final = 1_000


class ExecutionEndedError(APIException):
    """The execution is past acting upon."""

    status_code = 409

    def __init__(self, execution_id: str, status: ExecutionStatus) -> None:
        super().__init__(
            f"Execution {execution_id!r} has ended, with status {status}: "
            "only what is pending or running can be cancelled or terminated."
        )


class NotTemporalsRunError(APIException):
    """There is nothing to act upon."""

    status_code = 409

    def __init__(self, execution_id: str) -> None:
        super().__init__(
            f"Execution {execution_id!r} is no run that Temporal has: only such runs can be "
            "cancelled or terminated."
        )


class TemporalAwayError(APIException):
    """Temporal does not answer."""

    status_code = 503
    wait = RETRY_AFTER_SECONDS  # which DRF makes the Retry-After header of

    def __init__(self) -> None:
        super().__init__(
            f"Temporal did not answer within {ANSWER_SECONDS:g} s. The request may have reached "
            "it or not: make it again, which does no harm."
        )


class MayAct(BasePermission):
    """Beyond MayView: the permission that the view names, whoever may read."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        permission = view.permission  # type: ignore[attr-defined]
        if access.may_act(request.user, permission, view.kwargs["execution_id"]):
            return True
        if request.user.is_authenticated:
            raise PermissionDenied(f"For this, you need the permission {permission}.")
        return False


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARACTERS)] = ""


class ActingView(ExecutionsApiView):
    """Asks Temporal to act; asking again is answered alike until the execution has ended."""

    permission_classes = (MayView, MayAct)
    http_method_names: ClassVar[list[str]] = ["post"]  # type: ignore[misc]
    permission: ClassVar[str]
    needs_reason: ClassVar[bool]
    wanted: ClassVar[ExecutionStatus]
    told: ClassVar[str]

    def ask_temporal(self, act: Act, request: Request, execution_id: str) -> Response:
        reason = self._reason(request)
        execution = Execution.objects.filter(pk=execution_id).first()
        if execution is None:
            raise no_execution(execution_id)
        status = ExecutionStatus(execution.status)
        if status.is_final:
            raise ExecutionEndedError(execution_id, status)
        if execution.run_id is None:
            # Temporal would take the latest run of that workflow_id.
            raise NotTemporalsRunError(execution_id)
        asked = RunRequest(
            namespace=settings.TEMPORAL_NAMESPACE,
            workflow_id=execution.workflow_id,
            run_id=execution.run_id,
            reason=reason,
            identity=f"{request.user} (Nexus)",
        )
        # Back to the pool: others may need it while Temporal is being waited for.
        close_old_connections()
        try:
            ended = asyncio.run(acting.ask(act, asked, settings.TEMPORAL_ADDRESS, ANSWER_SECONDS))
        except UnknownRunError:
            raise NotTemporalsRunError(execution_id) from None
        except TemporalUnreachableError as error:
            log.warning("run_not_acted_on", execution_id=execution_id, problem=str(error))
            raise TemporalAwayError from None
        # Whoever asks again may find the run ended as asked before the stream has told so.
        if ended is not None and ended is not self.wanted:
            raise ExecutionEndedError(execution_id, ended)
        log.info("run_acted_on", execution_id=execution_id, by=request.user.pk, told=self.told)
        return Response({"detail": f"{self.told} The stream tells what comes of it."}, status=202)

    def _reason(self, request: Request) -> str:
        accepted = f"a reason, of at most {REASON_CHARACTERS:,} characters"
        body = decoded_body(request, _Body, f"a JSON object with nothing but {accepted}")
        if self.needs_reason and not body.reason.strip():
            raise BadBodyError('A reason is needed: the body must be like {"reason": "why"}')
        return body.reason


# For the OpenAPI document


class CancelSerializer(serializers.Serializer[JsonObject]):
    reason = serializers.CharField(
        max_length=REASON_CHARACTERS,
        required=False,
        allow_blank=True,
        help_text="Kept in the run's history.",
    )


# As str.strip() has it, in the words of JSON Schema.
_NOT_BLANK: Final = r"[^\s\x1c-\x1f\x85]"


class TerminateSerializer(serializers.Serializer[JsonObject]):
    reason = serializers.RegexField(
        _NOT_BLANK, max_length=REASON_CHARACTERS, help_text="Kept in the run's history."
    )


class AcceptedSerializer(serializers.Serializer[JsonObject]):
    detail = serializers.CharField(help_text="What Temporal has been asked.")


def _described(
    operation_id: str, summary: str, description: str, body: type[Any]
) -> Callable[[ViewT], ViewT]:
    return extend_schema(
        operation_id=operation_id,
        summary=summary,
        description=f"{description} Until it has ended, asking again is answered alike.",
        parameters=[
            EXECUTION_ID,
            OpenApiParameter(
                "Retry-After",
                int,
                OpenApiParameter.HEADER,
                required=True,
                response=[503],
                description="Seconds to wait before asking again.",
            ),
        ],
        request={"application/json": body},
        responses={
            202: AcceptedSerializer,
            400: OpenApiResponse(ErrorSerializer, "The id, a parameter or the body is malformed."),
            403: OpenApiResponse(
                ErrorSerializer, "You may see it but not do this, or a CSRF token is missing."
            ),
            409: OpenApiResponse(ErrorSerializer, "It has ended, or is no run of Temporal's."),
            415: OpenApiResponse(ErrorSerializer, "The body is not JSON."),
            503: OpenApiResponse(ErrorSerializer, "Temporal does not answer."),
            **ERRORS,
        },
    )


class CancelView(ActingView):
    permission = access.CANCEL_PERMISSION
    needs_reason = False
    wanted = ExecutionStatus.CANCELLED
    told = "Temporal has been asked to cancel the run."

    @_described(
        "cancelExecution",
        "Request the cancellation of a run",
        "The workflow learns of it, may clean up, and decides how it ends.",
        CancelSerializer,
    )
    def post(self, request: Request, execution_id: str) -> Response:
        return self.ask_temporal(acting.cancel, request, execution_id)


class TerminateView(ActingView):
    permission = access.TERMINATE_PERMISSION
    needs_reason = True
    wanted = ExecutionStatus.TERMINATED
    told = "Temporal has been asked to terminate the run."

    @_described(
        "terminateExecution",
        "Terminate a run",
        "It ends at once; the workflow does not learn of it.",
        TerminateSerializer,
    )
    def post(self, request: Request, execution_id: str) -> Response:
        return self.ask_temporal(acting.terminate, request, execution_id)
