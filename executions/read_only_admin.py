"""Admin pages that show and change nothing: of executions, and of their parts."""

from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets, quote
from django.core.exceptions import SuspiciousOperation
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.http import urlencode

from executions import access
from executions.models import Activity, Event

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

COUNTED_ROWS: Final = 100_000
"""As far as a list counts its rows, and can be paged through."""

_OF_EXECUTION: Final = "execution__exact"
_NOTHING: Final = "-"


class BoundedPaginator(_Paginator):
    """Counts to COUNTED_ROWS and no further: counting millions takes seconds at each page."""

    object_list: QuerySet[Any]

    @cached_property
    def count(self) -> int:
        return self.object_list.order_by()[:COUNTED_ROWS].count()

    @property
    def stopped_counting(self) -> bool:
        return self.count == COUNTED_ROWS


class ReadOnlyAdmin(_ModelAdmin):
    """Lists and pages to look at, for those who may view all executions.

    To others, single executions that they may view are not shown here: lists and their counts
    would have to ask about every row.
    """

    actions = None
    list_per_page = 50
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return access.may_view(request.user)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [str(name) for name in flatten_fieldsets(self.get_fieldsets(request, obj))]

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        # Django's page of an object's history asks for it before it asks who may see it.
        if "\0" in object_id or not self.has_view_permission(request):
            return None
        return super().get_object(request, object_id, from_field)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            raise SuspiciousOperation("NUL in a query parameter")
        return super().changelist_view(request, extra_context)


class PartAdmin(ReadOnlyAdmin):
    """Parts of executions: reached from their execution, whose parts the list then shows."""

    ordering_within: ClassVar[str]

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def get_ordering(self, request: HttpRequest) -> tuple[str]:
        return (self.ordering_within if _OF_EXECUTION in request.GET else "-id",)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if _OF_EXECUTION in request.GET:
            whose = f"of execution {request.GET[_OF_EXECUTION]}"
            title = f"{self.opts.verbose_name_plural} {whose}".capitalize()
            extra_context = {"title": title, **(extra_context or {})}
        return super().changelist_view(request, extra_context)

    @admin.display(description="execution")
    def of_execution(self, part: Activity | Event) -> str:
        return execution_link(part.execution_id)


def execution_link(execution_id: str | None) -> str:
    """A link to the execution's page, whether there is such an execution or not."""
    if execution_id is None:
        return _NOTHING
    address = reverse("admin:executions_execution_change", args=[quote(execution_id)])
    return format_html('<a href="{}">{}</a>', address, execution_id)


def parts_address(model: type[Activity | Event], execution_id: str) -> str:
    """Where the execution's activities, or events, are listed."""
    of_this = urlencode({_OF_EXECUTION: execution_id})
    return f"{reverse(f'admin:executions_{model._meta.model_name}_changelist')}?{of_this}"
