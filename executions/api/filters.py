"""Which executions the list shows, by query parameters."""

import re
from datetime import datetime
from functools import reduce
from operator import or_
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db import connections
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django_filters.rest_framework import (  # type: ignore[import-untyped]
    CharFilter,
    DjangoFilterBackend,
    Filter,
    FilterSet,
)
from drf_spectacular.utils import extend_schema_field
from rest_framework.request import Request
from rest_framework.views import APIView

from executions.api.errors import BadParametersError
from executions.api.parameters import listed, parse_moment, unacceptable
from executions.models import Execution
from executions.statuses import ExecutionStatus

_SEARCHED: Final = ("execution_id", "workflow_id", "workflow_type")


class _EveryValue(forms.Widget):
    """Takes all values of a repeated parameter."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        return data.getlist(name) if isinstance(data, QueryDict) else []


class _StatusesField(forms.Field):
    widget = _EveryValue

    def clean(self, value: list[str]) -> list[str]:
        statuses = listed(value)
        problem = unacceptable(statuses, list(ExecutionStatus))
        if problem is not None:
            raise ValidationError(problem)
        return statuses


class _MomentField(forms.Field):
    def clean(self, value: str | None) -> datetime | None:
        if value is None:
            return None
        try:
            return parse_moment(value)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class _StatusesFilter(Filter):  # type: ignore[misc]
    field_class = _StatusesField


class _MomentFilter(Filter):  # type: ignore[misc]
    field_class = _MomentField


def _exactly(description: str) -> Any:
    described = {"type": "string", "description": description}
    return extend_schema_field(described)(CharFilter(strip=False))


def _moment(field_name: str, lookup: str, description: str) -> Any:
    described = {"type": "string", "format": "date-time", "description": description}
    return extend_schema_field(described)(_MomentFilter(field_name=field_name, lookup_expr=lookup))


class ExecutionFilter(FilterSet):  # type: ignore[misc]
    """A range is half open: `…_after` is at or after the moment, `…_before` is before it."""

    status = extend_schema_field(
        {
            "type": "array",
            "items": {"type": "string", "enum": list(ExecutionStatus)},
            "description": "Any of these statuses; repeated or comma-separated.",
        }
    )(_StatusesFilter(lookup_expr="in"))
    workflow_id = _exactly("Exactly this workflow id.")
    workflow_type = _exactly("Exactly this workflow type.")
    created_after = _moment("created_at", "gte", "Created at this moment or later.")
    created_before = _moment("created_at", "lt", "Created before this moment.")
    started_after = _moment("started_at", "gte", "Started at this moment or later.")
    started_before = _moment("started_at", "lt", "Started before this moment.")
    completed_after = _moment("completed_at", "gte", "Completed at this moment or later.")
    completed_before = _moment("completed_at", "lt", "Completed before this moment.")
    search = extend_schema_field(
        {
            "type": "string",
            "description": f"Part of {', '.join(_SEARCHED)}, upper or lower case.",
        }
    )(CharFilter(method="with_text", strip=False))

    def with_text(self, queryset: QuerySet[Execution], name: str, text: str) -> QuerySet[Execution]:
        """The executions with this text in what is searched, whatever its case."""
        lookup, value = _any_case(queryset.db, text)
        return queryset.filter(
            reduce(or_, (Q(**{f"{field}__{lookup}": value}) for field in _SEARCHED))
        )


def _any_case(database: str, text: str) -> tuple[str, str]:
    # SQLite's LIKE knows the case of ASCII letters only; its REGEXP is Python's.
    if connections[database].vendor == "sqlite" and not text.isascii():
        return "iregex", re.escape(text)
    return "icontains", text


class ExecutionFilterBackend(DjangoFilterBackend):  # type: ignore[misc]
    """Applies the view's filter set; raises BadParametersError."""

    raise_exception = False

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Execution], view: APIView
    ) -> QuerySet[Execution]:
        filters = self.get_filterset(request, queryset, view)
        if not filters.is_valid():
            raise BadParametersError(filters.errors)
        filtered: QuerySet[Execution] = filters.qs
        return filtered
