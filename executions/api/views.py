"""GET /api/v1/executions and /api/v1/executions/{execution_id}."""

from functools import partial
from typing import Any, Final, cast

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executions import access
from executions.api.answering import (
    ERRORS,
    EVENT_ID_HEADER,
    EXECUTION_ID,
    MALFORMED,
    ExecutionsApiView,
    event_id_header,
    no_execution,
)
from executions.api.errors import BadParametersError
from executions.api.filters import ExecutionFilter, ExecutionFilterBackend
from executions.api.pagination import NewestFirstPagination
from executions.api.parameters import listed, unacceptable
from executions.api.serializers import (
    ErrorSerializer,
    ExecutionDetailSerializer,
    ExecutionSerializer,
)
from executions.document import JsonObject, execution_fields
from executions.identifiers import EventId
from executions.models import Execution, WorkflowDefinition
from executions.snapshots import read_snapshot

INCLUDABLE: Final = ("activities", "workflow_definition")


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
        description=(
            "The executions that you may view, newest first, page by page. Where single "
            "executions are permitted, a page may be shorter than asked for and still have a "
            "`next`: only without one is it the last."
        ),
        responses={
            200: ExecutionSerializer(many=True),
            400: OpenApiResponse(
                ErrorSerializer, "A parameter is unknown, or its value not accepted."
            ),
            **ERRORS,
        },
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        queryset = super().filter_queryset(queryset)
        condition = access.viewable(self.request.user)
        if condition is not None:
            return queryset.filter(condition)
        # Nothing but each row's own answer can tell: the page asks for it.
        pagination = cast(NewestFirstPagination, self.paginator)
        pagination.may_show = partial(access.may_view_row, self.request.user)
        return queryset


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
            EXECUTION_ID,
            OpenApiParameter(
                "include",
                {"type": "array", "items": {"type": "string", "enum": list(INCLUDABLE)}},
                description="What else to show; repeated or comma-separated.",
            ),
            event_id_header("The event_id that the document is true at: a cursor for the stream."),
        ],
        responses={200: ExecutionDetailSerializer, 400: MALFORMED, **ERRORS},
    )
    def get(self, request: Request, execution_id: str) -> Response:
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
            raise no_execution(execution_id)
        return snapshot.event_id, snapshot.document
    execution = Execution.objects.filter(pk=execution_id).first()
    if execution is None:
        raise no_execution(execution_id)
    return execution.head, execution_fields(execution)


def _workflow_definition(execution_id: str) -> Any:
    # Written with the execution and never changed: true at any of its event ids.
    rows = WorkflowDefinition.objects.filter(pk=execution_id)
    return rows.values_list("definition", flat=True).first()
