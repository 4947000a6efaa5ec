"""/metrics: what this process counts and measures, for Prometheus.

Each process tells of itself alone: where there are several, each is a target of its own.
"""

from typing import Final

from django.conf import settings
from django.http import HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from executions.api.answering import ExecutionsApiView

VIEW_METRICS_PERMISSION: Final = "executions.view_metrics"


class MayViewMetrics(BasePermission):
    """Everyone where reading is open; else active users with the permission."""

    message = f"To see metrics, you need the permission {VIEW_METRICS_PERMISSION}."

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        return settings.NEXUS_OPEN_READING or (
            user.is_active and user.has_perm(VIEW_METRICS_PERMISSION)
        )


class MetricsView(ExecutionsApiView):
    permission_classes = (MayViewMetrics,)
    schema = None  # no part of the API

    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_LATEST)
