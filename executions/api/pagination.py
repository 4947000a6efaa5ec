"""Pages of a list that stay true while rows are being added.

A cursor is the exact place of a row in the list's order, so every row that is there all
along is seen exactly once, however many share a moment or come in between.
"""

import re
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Generic, TypeVar

from django.db.models import Model, Q, QuerySet
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from executions.api.errors import BadParametersError
from executions.identifiers import EXECUTION_ID_FORM
from executions.models import Execution, Point

RowT = TypeVar("RowT", bound=Model)

PAGE_SIZE: Final = 50
LARGEST_PAGE_SIZE: Final = 200

_CURSOR: Final = re.compile(r"(next|previous) (.*)", flags=re.DOTALL)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class MalformedCursorError(ValueError):
    """The text is no cursor of this list."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list, as text, and which way to go on from it; the place is not included."""

    goes_back: bool
    place: str

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Read what `encode` wrote; raises MalformedCursorError."""
        try:
            plain = urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii")
        except (Base64Error, UnicodeError):
            raise MalformedCursorError(text) from None
        match = _CURSOR.fullmatch(plain)
        if match is None:
            raise MalformedCursorError(text)
        return cls(match[1] == "previous", match[2])

    def encode(self) -> str:
        plain = f"{'previous' if self.goes_back else 'next'} {self.place}"
        return urlsafe_b64encode(plain.encode("ascii")).decode("ascii").rstrip("=")


class PlacePagination(BasePagination, ABC, Generic[RowT]):
    """Answers `{"next": …, "previous": …, "results": [...]}`; the links are whole addresses.

    A subclass says in which order, and how a row's place in it is written and read.
    """

    parameters: Final = ("cursor", "page_size")

    fields: ClassVar[tuple[str, ...]]
    """Together unique; rows are ordered by the first, then by the next."""
    newest_first: ClassVar[bool]
    shown: ClassVar[str]

    @abstractmethod
    def place_of(self, row: RowT) -> str:
        """The row's place, in ASCII."""

    @abstractmethod
    def values_at(self, place: str) -> tuple[Any, ...]:
        """The values of `fields` at a place; raises MalformedCursorError."""

    def paginate_queryset(  # type: ignore[override]
        self, queryset: QuerySet[RowT], request: Request, view: APIView | None = None
    ) -> list[RowT]:
        """The page's rows, in the list's order; raises BadParametersError."""
        self._address = request.build_absolute_uri()
        size = _page_size(request.query_params.get("page_size"))
        text = request.query_params.get("cursor")
        goes_back = False
        if text is not None:
            goes_back, beyond = self._beyond(text)
            queryset = queryset.filter(beyond)
        descends = self.newest_first != goes_back
        order = [f"-{name}" if descends else name for name in self.fields]
        rows = list(queryset.order_by(*order)[: size + 1])
        page, more = rows[:size], len(rows) > size
        if goes_back:
            page.reverse()
        came_forward = text is not None and not goes_back
        self._next = self._link(page[-1:], goes_back=False, exists=more or goes_back)
        self._previous = self._link(
            page[:1], goes_back=True, exists=more if goes_back else came_forward
        )
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next, "previous": self._previous, "results": data})

    def _beyond(self, text: str) -> tuple[bool, Q]:
        try:
            cursor = Cursor.decode(text)
            values = self.values_at(cursor.place)
        except MalformedCursorError:
            told = "is not one of this list; take it from next or previous, or leave it out"
            raise BadParametersError({"cursor": [told]}) from None
        lookup = "lt" if self.newest_first != cursor.goes_back else "gt"
        return cursor.goes_back, _rows_beyond(lookup, self.fields, values)

    def _link(self, edge: Sequence[RowT], *, goes_back: bool, exists: bool) -> str | None:
        if not (exists and edge):
            return None
        cursor = Cursor(goes_back, self.place_of(edge[0]))
        return replace_query_param(self._address, "cursor", cursor.encode())

    # For the OpenAPI document

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        further, back = ("older", "newer") if self.newest_first else ("newer", "older")
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": link
                | {"description": f"The page of {further} {self.shown}, if there is one."},
                "previous": link | {"description": f"The page of {back} {self.shown}, if any."},
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
                "description": f"{self.shown.capitalize()} on a page.",
                "schema": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": LARGEST_PAGE_SIZE,
                    "default": PAGE_SIZE,
                },
            },
        ]


class NewestFirstPagination(PlacePagination[Execution]):
    fields = ("created_at", "execution_id")
    newest_first = True
    shown = "executions"

    _place: Final = re.compile(rf"(-?[0-9]{{1,18}}) ({EXECUTION_ID_FORM})")

    def place_of(self, row: Execution) -> str:
        return f"{(row.created_at - _EPOCH) // _MICROSECOND} {row.execution_id}"

    def values_at(self, place: str) -> tuple[datetime, str]:
        match = self._place.fullmatch(place)
        if match is None:
            raise MalformedCursorError(place)
        try:
            return _EPOCH + int(match[1]) * _MICROSECOND, match[2]
        except OverflowError:
            raise MalformedCursorError(place) from None


class StoryPagination(PlacePagination[Point]):
    fields = ("engine_event_id",)
    newest_first = False
    shown = "points"

    def place_of(self, row: Point) -> str:
        return str(row.engine_event_id)

    def values_at(self, place: str) -> tuple[int]:
        if re.fullmatch("[0-9]{1,18}", place) is None:
            raise MalformedCursorError(place)
        return (int(place),)


def _rows_beyond(lookup: str, fields: Sequence[str], values: Sequence[Any]) -> Q:
    beyond = Q(**{f"{fields[0]}__{lookup}": values[0]})
    if not fields[1:]:
        return beyond
    # The first term is for the index: it excludes nothing.
    up_to = Q(**{f"{fields[0]}__{lookup}e": values[0]})
    return up_to & (beyond | _rows_beyond(lookup, fields[1:], values[1:]))


def _page_size(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= LARGEST_PAGE_SIZE:
        return int(text)
    raise BadParametersError(
        {"page_size": [f"must be a whole number from 1 to {LARGEST_PAGE_SIZE}"]}
    )
