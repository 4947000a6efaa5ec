"""Paths under /api/v1 for those who open streams; they stand beside `executions.api.urls`."""

from executions.api.urls import paths
from streaming.api import TicketsView

urlpatterns = [*paths("tickets", TicketsView, "tickets")]
