"""Pages of executions, newest first, that stay true while executions are being added.

A cursor is the exact place of a row in the order (created_at, execution_id), so every row
that is there all along is seen exactly once, however many share a moment or come in between.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from django.db.models import Q, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from executions.api.errors import BadParametersError
from executions.identifiers import EXECUTION_ID_FORM
from executions.models import Execution

PAGE_SIZE: Final = 50
LARGEST_PAGE_SIZE: Final = 200

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_CURSOR: Final = re.compile(rf"(older|newer) (-?[0-9]{{1,18}}) ({EXECUTION_ID_FORM})")
_NEWEST_FIRST: Final = ("-created_at", "-execution_id")
_OLDEST_FIRST: Final = ("created_at", "execution_id")


class MalformedCursorError(ValueError):
    """The text is no cursor of ours."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list, and which way to go on from it; the place itself is not included."""

    goes_newer: bool
    created_at: datetime
    execution_id: str

    @classmethod
    def at(cls, execution: Execution, *, goes_newer: bool) -> Self:
        return cls(goes_newer, execution.created_at, execution.execution_id)

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what `encode` wrote; raises MalformedCursorError."""
        try:
            plain = urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii")
            match = _CURSOR.fullmatch(plain)
            if match is None:
                raise MalformedCursorError(text)
            created_at = _EPOCH + int(match[2]) * _MICROSECOND
        except (Base64Error, UnicodeError, OverflowError):
            raise MalformedCursorError(text) from None
        return cls(match[1] == "newer", created_at, match[3])

    def encode(self) -> str:
        way = "newer" if self.goes_newer else "older"
        microseconds = (self.created_at - _EPOCH) // _MICROSECOND
        plain = f"{way} {microseconds} {self.execution_id}"
        return urlsafe_b64encode(plain.encode("ascii")).decode("ascii").rstrip("=")

    def beyond(self) -> Q:
        """The rows beyond this place; the first term is for the index, it excludes nothing."""
        if self.goes_newer:
            return Q(created_at__gte=self.created_at) & (
                Q(created_at__gt=self.created_at) | Q(execution_id__gt=self.execution_id)
            )
        return Q(created_at__lte=self.created_at) & (
            Q(created_at__lt=self.created_at) | Q(execution_id__lt=self.execution_id)
        )


class NewestFirstPagination(BasePagination):
    """Answers `{"next": …, "previous": …, "results": [...]}`; the links are whole addresses."""

    parameters: Final = ("cursor", "page_size")

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[Execution], request: Request, view: APIView | None = None
    ) -> list[Execution]:
        """The page's rows, newest first; raises BadParametersError."""
        self._address = request.build_absolute_uri()
        size = _page_size(request.query_params.get("page_size"))
        cursor = _cursor(request.query_params.get("cursor"))
        goes_newer = cursor is not None and cursor.goes_newer
        if cursor is not None:
            queryset = queryset.filter(cursor.beyond())
        queryset = queryset.order_by(*(_OLDEST_FIRST if goes_newer else _NEWEST_FIRST))
        rows = list(queryset[: size + 1])
        page, more = rows[:size], len(rows) > size
        if goes_newer:
            page.reverse()
        came_from_newer = cursor is not None and not goes_newer
        self._next = self._link(page[-1:], goes_newer=False, exists=more or goes_newer)
        self._previous = self._link(
            page[:1], goes_newer=True, exists=more if goes_newer else came_from_newer
        )
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next, "previous": self._previous, "results": data})

    def _link(self, edge: Sequence[Execution], *, goes_newer: bool, exists: bool) -> str | None:
        if not (exists and edge):
            return None
        cursor = Cursor.at(edge[0], goes_newer=goes_newer)
        return replace_query_param(self._address, "cursor", cursor.encode())

    # For the OpenAPI document

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": link | {"description": "The page of older executions, if there is one."},
                "previous": link | {"description": "The page of newer executions, if any."},
                "results": schema,
            },
        }

    def get_schema_operation_parameters(self, view: APIView) -> list[dict[str, Any]]:
        return [
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where a page begins; taken from `next` or `previous`.",
                "schema": {"type": "string"},
            },
            {
                "name": "page_size",
                "in": "query",
                "required": False,
                "description": "Executions on a page.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LARGEST_PAGE_SIZE,
                    "default": PAGE_SIZE,
                },
            },
        ]


def _page_size(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= LARGEST_PAGE_SIZE:
        return int(text)
    raise BadParametersError(
        {"page_size": [f"must be a whole number from 1 to {LARGEST_PAGE_SIZE}"]}
    )


def _cursor(text: str | None) -> Cursor | None:
    if text is None:
        return None
    try:
        return Cursor.decode(text)
    except MalformedCursorError:
        raise BadParametersError(
            {"cursor": ["is not one of this list; take it from next or previous, or leave it out"]}
        ) from None
