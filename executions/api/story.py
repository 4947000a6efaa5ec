"""GET /api/v1/executions/{execution_id}/story: what happened in a run and is no activity."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from executions.api.answering import (
    ERRORS,
    EXECUTION_ID,
    MALFORMED,
    ExecutionsApiView,
    no_execution,
)
from executions.api.detail_serializers import PointSerializer
from executions.api.pagination import StoryPagination
from executions.models import Execution, Point


class StoryView(ExecutionsApiView, ListAPIView[Point]):
    queryset = Point.objects.all()
    serializer_class = PointSerializer
    filter_backends = ()
    pagination_class = StoryPagination
    once = StoryPagination.parameters

    @extend_schema(
        operation_id="getStory",
        summary="Read an execution's story",
        description=(
            "Points of the run that are no activities, such as signals and updates, oldest "
            "first, page by page."
        ),
        parameters=[EXECUTION_ID],
        responses={200: PointSerializer(many=True), 400: MALFORMED, **ERRORS},
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Point]:
        execution_id = self.kwargs["execution_id"]
        if not Execution.objects.filter(pk=execution_id).exists():
            raise no_execution(execution_id)
        return super().get_queryset().filter(execution_id=execution_id)
