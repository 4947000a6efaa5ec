"""Paths under /api/v1, each with and without a slash at its end."""

from django.urls import URLPattern, path, register_converter
from rest_framework.views import APIView

from executions.api.activity_details import ActivityView, AnyText
from executions.api.describing import DocsView, SchemaView
from executions.api.story import StoryView
from executions.api.tokens import TokensView, TokenView
from executions.api.views import ExecutionDetailView, ExecutionListView

register_converter(AnyText, "any_text")


def paths(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """The path to the view, with and without a slash at its end."""
    # The OpenAPI document shows a path once: without the slash.
    return [
        path(route, view.as_view(), name=name),
        path(f"{route}/", view.as_view(schema=None)),
    ]


_EXECUTION = "executions/<str:execution_id>"

urlpatterns = [
    *paths("executions", ExecutionListView, "executions"),
    *paths(_EXECUTION, ExecutionDetailView, "execution"),
    *paths(f"{_EXECUTION}/story", StoryView, "story"),
    # A slash at its end may be the id's own: the view tells.
    path(
        f"{_EXECUTION}/activities/<any_text:activity_id>", ActivityView.as_view(), name="activity"
    ),
    *paths("tokens", TokensView, "tokens"),
    *paths("tokens/<slug:token_key>", TokenView, "token"),
    *paths("schema", SchemaView, "schema"),
    *paths("docs", DocsView, "docs"),
]
