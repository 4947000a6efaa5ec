"""Pages of a list that stay true while rows are being added.

A cursor is the exact place of a row in the list's order, so every row that is there all
along is seen exactly once, however many share a moment or come in between.
"""

import re
from abc import ABC, abstractmethod
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterator, Sequence
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
ROWS_ASKED_ABOUT: Final = 500
ROWS_READ_AT_ONCE: Final = 100

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
            cursor, values = self._read(text)
            goes_back = cursor.goes_back
            queryset = queryset.filter(_rows_beyond(self._lookup(goes_back), self.fields, values))
        page, place_beyond = self._page(queryset, size, goes_back)
        onward = self._link(goes_back, place_beyond)
        place_before = self.place_of(page[0]) if page and text is not None else None
        back = self._link(not goes_back, place_before)
        if goes_back:
            page.reverse()
        self._next, self._previous = (back, onward) if goes_back else (onward, back)
        return page

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._next, "previous": self._previous, "results": data})

    def _page(
        self, queryset: QuerySet[RowT], size: int, goes_back: bool
    ) -> tuple[list[RowT], str | None]:
        """The rows of a page as the cursor goes, and the place after them; None at the end."""
        rows = list(self._ordered(queryset, goes_back)[: size + 1])
        return rows[:size], self.place_of(rows[size - 1]) if len(rows) > size else None

    def _ordered(self, queryset: QuerySet[RowT], goes_back: bool) -> QuerySet[RowT]:
        descends = self.newest_first != goes_back
        return queryset.order_by(*(f"-{name}" if descends else name for name in self.fields))

    def _lookup(self, goes_back: bool) -> str:
        return "lt" if self.newest_first != goes_back else "gt"

    def _read(self, text: str) -> tuple[Cursor, tuple[Any, ...]]:
        try:
            cursor = Cursor.decode(text)
            return cursor, self.values_at(cursor.place)
        except MalformedCursorError:
            told = "is not one of this list; take it from next or previous, or leave it out"
            raise BadParametersError({"cursor": [told]}) from None

    def _link(self, goes_back: bool, place: str | None) -> str | None:
        if place is None:
            return None
        cursor = Cursor(goes_back, place)
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
    """With `may_show`, pages hold the rows it says yes to.

    It is asked about few more than ROWS_ASKED_ABOUT rows a page: the page may be shorter than
    asked for, or empty, and still have one after it.
    """

    fields = ("created_at", "execution_id")
    newest_first = True
    shown = "executions"
    may_show: Callable[[Execution], bool] | None = None

    _place: Final = re.compile(rf"(-?[0-9]{{1,18}})(?: ({EXECUTION_ID_FORM}))?")

    def place_of(self, row: Execution) -> str:
        return f"{_microseconds(row.created_at)} {row.execution_id}"

    def values_at(self, place: str) -> tuple[datetime, str] | tuple[datetime]:
        match = self._place.fullmatch(place)
        if match is None:
            raise MalformedCursorError(place)
        try:
            moment = _EPOCH + int(match[1]) * _MICROSECOND
        except OverflowError:
            raise MalformedCursorError(place) from None
        return (moment,) if match[2] is None else (moment, match[2])

    def _page(
        self, queryset: QuerySet[Execution], size: int, goes_back: bool
    ) -> tuple[list[Execution], str | None]:
        if self.may_show is None:
            return super()._page(queryset, size, goes_back)
        page: list[Execution] = []
        before: Execution | None = None
        for asked, row in enumerate(self._each(queryset, goes_back)):
            if (
                asked >= ROWS_ASKED_ABOUT
                and before is not None
                and row.created_at != before.created_at
            ):
                # The row may be one that must not be named: the place is the whole moment.
                return page, str(_microseconds(row.created_at) + (-1 if goes_back else 1))
            if self.may_show(row):
                if len(page) == size:
                    return page, self.place_of(page[-1])
                page.append(row)
            before = row
        return page, None

    def _each(self, queryset: QuerySet[Execution], goes_back: bool) -> Iterator[Execution]:
        lookup, rest = self._lookup(goes_back), queryset
        while batch := list(self._ordered(rest, goes_back)[:ROWS_READ_AT_ONCE]):
            yield from batch
            values = (batch[-1].created_at, batch[-1].execution_id)
            rest = queryset.filter(_rows_beyond(lookup, self.fields, values))


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
    if not values[1:]:
        return beyond
    # The first term is for the index: it excludes nothing.
    up_to = Q(**{f"{fields[0]}__{lookup}e": values[0]})
    return up_to & (beyond | _rows_beyond(lookup, fields[1:], values[1:]))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _page_size(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= LARGEST_PAGE_SIZE:
        return int(text)
    raise BadParametersError(
        {"page_size": [f"must be a whole number from 1 to {LARGEST_PAGE_SIZE}"]}
    )
