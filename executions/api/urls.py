"""Paths under /api/v1, each with and without a slash at its end."""

from django.urls import URLPattern, path
from rest_framework.views import APIView

from executions.api.describing import DocsView, SchemaView
from executions.api.views import ExecutionDetailView, ExecutionListView


def _paths(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    # The OpenAPI document shows a path once: without the slash.
    return [
        path(route, view.as_view(), name=name),
        path(f"{route}/", view.as_view(schema=None)),
    ]


urlpatterns = [
    *_paths("executions", ExecutionListView, "executions"),
    *_paths("executions/<str:execution_id>", ExecutionDetailView, "execution"),
    *_paths("schema", SchemaView, "schema"),
    *_paths("docs", DocsView, "docs"),
]
