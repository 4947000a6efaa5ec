"""Paths under /api/v1 by which a run is acted upon; they stand beside `executions.api.urls`."""

from executions.api.urls import paths
from executions.temporal.api import CancelView, TerminateView

urlpatterns = [
    *paths("executions/<str:execution_id>/cancel", CancelView, "cancel"),
    *paths("executions/<str:execution_id>/terminate", TerminateView, "terminate"),
]
