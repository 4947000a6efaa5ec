"""The admin: an operator finds an execution and sees all of it, and changes nothing.

`streaming` shows more of an execution by registering a subclass of `ExecutionAdmin` in its
place: a method, and its name at the end of `fields`.
"""

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
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from executions import access, inspection
from executions.models import Activity, Event, Execution

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Paginator = Paginator

COUNTED_ROWS: Final = 100_000
"""As far as a list counts its rows, and can be paged through."""

RECENT_EXECUTIONS: Final = 1_000
"""The workflow types of this many newest executions are offered as filters."""

_OF_EXECUTION: Final = "execution__exact"
_NAME_CHARACTERS: Final = 40
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
    """Lists and pages to look at, for those who may view executions."""

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
        return access.may_view(request.user, None if obj is None else obj.execution_id)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [str(name) for name in flatten_fieldsets(self.get_fieldsets(request, obj))]

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        return None if "\0" in object_id else super().get_object(request, object_id, from_field)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if any("\0" in value for values in request.GET.lists() for value in values[1]):
            raise SuspiciousOperation("NUL in a query parameter")
        return super().changelist_view(request, extra_context)


class WorkflowTypeFilter(admin.SimpleListFilter):
    """Offers the types in recent use: telling all there ever were means reading all rows."""

    title = "workflow type, if recent"
    parameter_name = "workflow_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = Execution.objects.order_by("-created_at", "-execution_id")
        types = set(newest.values_list("workflow_type", flat=True)[:RECENT_EXECUTIONS])
        return [(name, _shortened(name)) for name in sorted(types)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset if chosen is None else queryset.filter(workflow_type=chosen)


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyAdmin):
    list_display = ("execution_id", "of_workflow", "of_type", "status", "created", "head")
    list_filter = ("status", "created_at", WorkflowTypeFilter)
    search_fields = ("execution_id", "workflow_id", "workflow_type", "run_id")
    search_help_text = "Part of an execution id, workflow id, workflow type or run id"
    ordering = ("-created_at", "-execution_id")
    fields: ClassVar[tuple[str, ...]] = (
        "execution_id",
        "workflow_id",
        "workflow_type",
        "run_id",
        "status",
        "created",
        "started",
        "completed",
        "error",
        "document",
        "head",
    )

    @admin.display(description="workflow id", ordering="workflow_id")
    def of_workflow(self, execution: Execution) -> str:
        return _shortened(execution.workflow_id)

    @admin.display(description="workflow type", ordering="workflow_type")
    def of_type(self, execution: Execution) -> str:
        return _shortened(execution.workflow_type)

    @admin.display(description="created (UTC)", ordering="created_at")
    def created(self, execution: Execution) -> str:
        return inspection.shown_moment(execution.created_at)

    @admin.display(description="started (UTC)")
    def started(self, execution: Execution) -> str:
        return inspection.shown_moment(execution.started_at) or _NOTHING

    @admin.display(description="completed (UTC)")
    def completed(self, execution: Execution) -> str:
        return inspection.shown_moment(execution.completed_at) or _NOTHING

    @admin.display(description="error")
    def error(self, execution: Execution) -> str:
        return inspection.shown_error(execution.error_details) or _NOTHING

    @admin.display(description="document")
    def document(self, execution: Execution) -> SafeString:
        address = reverse("execution", args=[execution.pk])
        return format_html('<a href="{0}?include=activities">{0}?include=activities</a>', address)

    @admin.display(description="head", ordering="head_milliseconds")
    def head(self, execution: Execution) -> str:
        return str(execution.head)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None:
            context = {**context, **_tables(obj.pk)}
        return super().render_change_form(request, context, add, change, form_url, obj)


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
    def of_execution(self, part: Activity | Event) -> SafeString:
        address = reverse("admin:executions_execution_change", args=[quote(part.execution_id)])
        return format_html('<a href="{}">{}</a>', address, part.execution_id)


@admin.register(Activity)
class ActivityAdmin(PartAdmin):
    ordering_within = "position"
    list_display = ("position", "of_id", "of_name", "status", "attempt", "of_execution")
    list_filter = ("status",)
    fields = (
        "of_execution",
        "position",
        "activity_id",
        "activity_name",
        "activity_type",
        "status",
        "attempt",
        "progress",
        "started",
        "completed",
        "error",
        "dependencies",
    )

    @admin.display(description="activity id")
    def of_id(self, activity: Activity) -> str:
        return _shortened(activity.activity_id)

    @admin.display(description="name")
    def of_name(self, activity: Activity) -> str:
        return _shortened(activity.activity_name)

    @admin.display(description="started (UTC)")
    def started(self, activity: Activity) -> str:
        return inspection.shown_moment(activity.started_at) or _NOTHING

    @admin.display(description="completed (UTC)")
    def completed(self, activity: Activity) -> str:
        return inspection.shown_moment(activity.completed_at) or _NOTHING

    @admin.display(description="error")
    def error(self, activity: Activity) -> str:
        return inspection.shown_error(activity.error_details) or _NOTHING

    @admin.display(description="depends on")
    def dependencies(self, activity: Activity) -> str:
        return ", ".join(activity.depends_on) or _NOTHING


@admin.register(Event)
class EventAdmin(PartAdmin):
    ordering_within = "-sequence"
    list_display = ("id_shown", "kind", "time", "of_execution")
    fields = ("of_execution", "id_shown", "time", "payload")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return inspection.with_beginnings(super().get_queryset(request))

    @admin.display(description="event id")
    def id_shown(self, event: Event) -> str:
        return str(event.event_id)

    @admin.display(description="type")
    def kind(self, event: Any) -> str:
        return inspection.kind_of(event.beginning)

    @admin.display(description="time (UTC)")
    def time(self, event: Event) -> str:
        return inspection.shown_event_time(event.event_id)

    @admin.display(description="payload")
    def payload(self, event: Event) -> SafeString:
        return format_html('<pre class="payload">{}</pre>', inspection.pretty(event.message))


def _tables(execution_id: str) -> dict[str, Any]:
    activities, there_are_more_activities = inspection.first_activities(execution_id)
    events, there_are_more_events = inspection.last_events(execution_id)
    of_this = urlencode({_OF_EXECUTION: execution_id})
    return {
        "activities": activities,
        "there_are_more_activities": there_are_more_activities,
        "all_activities": f"{reverse('admin:executions_activity_changelist')}?{of_this}",
        "events": events,
        "there_are_more_events": there_are_more_events,
        "all_events": f"{reverse('admin:executions_event_changelist')}?{of_this}",
    }


def _shortened(name: str) -> str:
    return Truncator(name).chars(_NAME_CHARACTERS)
