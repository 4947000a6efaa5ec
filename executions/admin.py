"""The admin: an operator finds an execution and sees all of it, and changes nothing.

`streaming` shows more of an execution by registering a subclass of `ExecutionAdmin` in its
place: a method, and its name at the end of `fields`.
"""

from typing import Any, ClassVar, Final

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from executions import inspection
from executions.models import Activity, Event, Execution
from executions.read_only_admin import PartAdmin, ReadOnlyAdmin, execution_link, parts_address

RECENT_EXECUTIONS: Final = 1_000
"""The workflow types of this many newest executions are offered as filters."""

_NAME_CHARACTERS: Final = 40
_NOTHING: Final = "-"


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
        "parent",
        "previous",
        "next",
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

    @admin.display(description="parent execution")
    def parent(self, execution: Execution) -> str:
        return execution_link(execution.parent_execution_id)

    @admin.display(description="previous execution")
    def previous(self, execution: Execution) -> str:
        return execution_link(execution.previous_execution_id)

    @admin.display(description="next execution")
    def next(self, execution: Execution) -> str:
        return execution_link(execution.next_execution_id)

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


@admin.register(Activity)
class ActivityAdmin(PartAdmin):
    ordering_within = "position"
    list_display = ("position", "of_id", "of_name", "status", "attempt", "of_execution")
    list_filter = ("status", "pending_state")
    fields = (
        "of_execution",
        "position",
        "activity_id",
        "activity_name",
        "activity_type",
        "status",
        "pending_state",
        "attempt",
        "next_attempt",
        "progress",
        "scheduled",
        "started",
        "completed",
        "error",
        "dependencies",
        "child",
        "document",
    )

    @admin.display(description="activity id")
    def of_id(self, activity: Activity) -> str:
        return _shortened(activity.activity_id)

    @admin.display(description="name")
    def of_name(self, activity: Activity) -> str:
        return _shortened(activity.activity_name)

    @admin.display(description="next attempt (UTC)")
    def next_attempt(self, activity: Activity) -> str:
        return inspection.shown_moment(activity.next_attempt_at) or _NOTHING

    @admin.display(description="scheduled (UTC)")
    def scheduled(self, activity: Activity) -> str:
        return inspection.shown_moment(activity.scheduled_at) or _NOTHING

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

    @admin.display(description="child execution")
    def child(self, activity: Activity) -> str:
        return execution_link(activity.child_execution_id)

    @admin.display(description="document")
    def document(self, activity: Activity) -> SafeString:
        address = reverse("activity", args=[activity.execution_id, activity.activity_id])
        return format_html('<a href="{0}">{0}</a>', address)

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
            context = {**context, **_ledger(obj)}
        return super().render_change_form(request, context, add, change, form_url, obj)


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
    points, there_are_more_points = inspection.latest_points(execution_id)
    events, there_are_more_events = inspection.last_events(execution_id)
    return {
        "activities": activities,
        "there_are_more_activities": there_are_more_activities,
        "all_activities": parts_address(Activity, execution_id),
        "points": points,
        "there_are_more_points": there_are_more_points,
        "all_points": reverse("story", args=[execution_id]),
        "events": events,
        "there_are_more_events": there_are_more_events,
        "all_events": parts_address(Event, execution_id),
    }


def _ledger(activity: Activity) -> dict[str, Any]:
    attempts, attempts_omitted = inspection.newest_attempts(activity)
    return {
        "attempts": attempts,
        "attempts_omitted": attempts_omitted,
        "details": inspection.shown_details(activity),
    }


def _shortened(name: str) -> str:
    return Truncator(name).chars(_NAME_CHARACTERS)
