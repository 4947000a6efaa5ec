"""GET /api/v1/executions and /api/v1/executions/{execution_id}."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

import msgspec
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound
from rest_framework.generics import ListAPIView
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from executions import access
from executions.api.authentication import BasicAuthentication
from executions.api.errors import (
    BadParametersError,
    MalformedExecutionIdError,
    answer_exception,
)
from executions.api.filters import ExecutionFilter, ExecutionFilterBackend
from executions.api.pagination import NewestFirstPagination
from executions.api.parameters import check_parameters, listed, unacceptable
from executions.api.serializers import (
    ErrorSerializer,
    ExecutionDetailSerializer,
    ExecutionSerializer,
)
from executions.document import JsonObject, execution_fields
from executions.identifiers import EXECUTION_ID_FORM, EventId, is_execution_id
from executions.models import Execution, WorkflowDefinition
from executions.snapshots import read_snapshot

EVENT_ID_HEADER: Final = "Nexus-Event-Id"
INCLUDABLE: Final = ("activities", "workflow_definition")


class DocumentRenderer(JSONRenderer):
    """Writes JSON as events are written, so that equal documents are equal bytes."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return msgspec.json.encode(data)


class AlwaysJson(BaseContentNegotiation):
    """Answers in JSON whatever the client would rather have: there is nothing else."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class MayView(BasePermission):
    """Those who may not view are told the same as of what does not exist; strangers to log in."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        execution_id = view.kwargs.get("execution_id")
        if access.may_view(request.user, execution_id):
            return True
        if not request.user.is_authenticated:
            return False
        if execution_id is None:
            raise NotFound(f"To see executions, you need the permission {access.VIEW_PERMISSION}.")
        raise _no_execution(execution_id)


class ExecutionsApiView(APIView):
    """What both views share: reading only, for those who may, with checked parameters."""

    # Basic first: its challenge makes a request without credentials 401 rather than 403.
    authentication_classes = (BasicAuthentication, SessionAuthentication)
    permission_classes = (MayView,)
    renderer_classes = (DocumentRenderer,)
    content_negotiation_class = AlwaysJson
    http_method_names: ClassVar[list[str]] = ["get", "head"]  # type: ignore[misc]
    once: ClassVar[Sequence[str]] = ()
    repeatable: ClassVar[Sequence[str]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        check_parameters(request.query_params, once=self.once, repeatable=self.repeatable)

    def get_exception_handler(self) -> Callable[..., Any]:
        return answer_exception

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}


_ERRORS: Final = {
    401: OpenApiResponse(ErrorSerializer, "Log in first."),
    404: OpenApiResponse(ErrorSerializer, "There is no such thing for you."),
    500: OpenApiResponse(ErrorSerializer, "The fault is on this side."),
}


class ExecutionListView(ExecutionsApiView, ListAPIView[Execution]):
    queryset = Execution.objects.all()
    serializer_class = ExecutionSerializer
    filter_backends = (ExecutionFilterBackend,)
    filterset_class = ExecutionFilter
    pagination_class = NewestFirstPagination
    repeatable = ("status",)
    once = (*(set(ExecutionFilter.base_filters) - {"status"}), *NewestFirstPagination.parameters)

    @extend_schema(
        operation_id="listExecutions",
        summary="Find executions",
        description="Executions, newest first, page by page.",
        responses={
            200: ExecutionSerializer(many=True),
            400: OpenApiResponse(
                ErrorSerializer, "A parameter is unknown, or its value not accepted."
            ),
            **_ERRORS,
        },
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)


class ExecutionDetailView(ExecutionsApiView):
    repeatable = ("include",)

    @extend_schema(
        operation_id="getExecution",
        summary="Read one execution",
        description=(
            "The execution as it was at one instant. With `include=activities` it is the "
            "document that snapshots on the stream carry."
        ),
        parameters=[
            OpenApiParameter(
                "execution_id",
                {"type": "string", "pattern": f"^{EXECUTION_ID_FORM}$"},
                OpenApiParameter.PATH,
            ),
            OpenApiParameter(
                "include",
                {"type": "array", "items": {"type": "string", "enum": list(INCLUDABLE)}},
                description="What else to show; repeated or comma-separated.",
            ),
            OpenApiParameter(
                EVENT_ID_HEADER,
                {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
                OpenApiParameter.HEADER,
                required=True,
                response=[200],
                description="The event_id that the document is true at: a cursor for the stream.",
            ),
        ],
        responses={
            200: ExecutionDetailSerializer,
            400: OpenApiResponse(ErrorSerializer, "The id or a parameter is malformed."),
            **_ERRORS,
        },
    )
    def get(self, request: Request, execution_id: str) -> Response:
        if not is_execution_id(execution_id):
            raise MalformedExecutionIdError(execution_id)
        included = listed(request.query_params.getlist("include"))
        problem = unacceptable(included, INCLUDABLE)
        if problem is not None:
            raise BadParametersError({"include": [problem]})
        event_id, shown = _read(execution_id, with_activities="activities" in included)
        if "workflow_definition" in included:
            shown["workflow_definition"] = _workflow_definition(execution_id)
        return Response(shown, headers={EVENT_ID_HEADER: str(event_id)})


def _read(execution_id: str, *, with_activities: bool) -> tuple[EventId, JsonObject]:
    if with_activities:
        snapshot = read_snapshot(execution_id)
        if snapshot is None:
            raise _no_execution(execution_id)
        return snapshot.event_id, snapshot.document
    execution = Execution.objects.filter(pk=execution_id).first()
    if execution is None:
        raise _no_execution(execution_id)
    return execution.head, execution_fields(execution)


def _workflow_definition(execution_id: str) -> Any:
    # Written with the execution and never changed: true at any of its event ids.
    rows = WorkflowDefinition.objects.filter(pk=execution_id)
    return rows.values_list("definition", flat=True).first()


def _no_execution(execution_id: str) -> NotFound:
    return NotFound(f"There is no execution {execution_id[:80]!r}.")
