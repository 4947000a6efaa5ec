"""The documents' fields as the OpenAPI document shows them.

What is sent is made by `executions.document` alone; a test holds these fields to its keys.
"""

from enum import StrEnum
from typing import Any, Final

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction
from rest_framework import serializers

from executions import document
from executions.document import JsonObject
from executions.identifiers import EXECUTION_ID_FORM
from executions.models import Activity, Execution
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState

MOMENT: Final = "UTC, with microseconds, such as 2026-01-02T03:04:05.678901Z."


class ExecutionIdField(serializers.RegexField):
    """An execution's id."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(f"^{EXECUTION_ID_FORM}$", **kwargs)


class StatusField(serializers.CharField):
    """One of the values of `statuses`."""

    def __init__(self, statuses: type[StrEnum], **kwargs: Any) -> None:
        self.statuses = statuses
        super().__init__(**kwargs)


class StatusFieldExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Gives each enumeration a schema component named after it."""

    target_class = StatusField
    target: StatusField

    def get_name(self) -> str:
        return self.target.statuses.__name__

    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> JsonObject:
        return {"type": "string", "enum": list(self.target.statuses)}


class ErrorDetailsSerializer(serializers.Serializer[JsonObject]):
    type = serializers.CharField(allow_null=True, help_text="The failure's kind, where known.")
    message = serializers.CharField()


class ActivitySerializer(serializers.Serializer[Activity]):
    activity_id = serializers.CharField(help_text="Unique within its execution.")
    activity_name = serializers.CharField()
    activity_type = serializers.CharField(
        help_text="`activity`, or what it is where it is none: `child_workflow`, `timer` and so on."
    )
    status = StatusField(ActivityStatus)
    pending_state = StatusField(
        PendingState, allow_null=True, help_text="What was asked of it, while it has not ended."
    )
    scheduled_at = serializers.DateTimeField(
        allow_null=True, help_text=f"Null where it is only planned, or not known. {MOMENT}"
    )
    started_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    completed_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    error_details = ErrorDetailsSerializer(
        allow_null=True,
        help_text="Of the last attempt that failed, while others follow too; "
        "null once it has completed.",
    )
    retry_count = serializers.IntegerField(min_value=0, help_text="The attempt less one.")
    next_attempt_at = serializers.DateTimeField(
        allow_null=True, help_text=f"When it is tried again, while it backs off. {MOMENT}"
    )
    depends_on = serializers.ListField(
        child=serializers.CharField(), help_text="Ids of activities of the same execution."
    )
    progress = serializers.FloatField(
        allow_null=True, min_value=0, max_value=1, help_text="A share of the whole, where known."
    )
    child_execution_id = ExecutionIdField(
        allow_null=True, help_text="The execution that this child workflow is."
    )

    def to_representation(self, instance: Activity) -> JsonObject:
        return document.activity_document(instance)


class LatestPointSerializer(serializers.Serializer[JsonObject]):
    kind = serializers.CharField()
    name = serializers.CharField(allow_null=True)
    at = serializers.DateTimeField(help_text=MOMENT)


class ExecutionSerializer(serializers.Serializer[Execution]):
    execution_id = ExecutionIdField()
    workflow_id = serializers.CharField()
    workflow_type = serializers.CharField()
    run_id = serializers.CharField(allow_null=True)
    status = StatusField(ExecutionStatus)
    created_at = serializers.DateTimeField(help_text=MOMENT)
    started_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    completed_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    error_details = ErrorDetailsSerializer(allow_null=True)
    parent_execution_id = ExecutionIdField(
        allow_null=True, help_text="The execution that started this one as a child workflow."
    )
    previous_execution_id = ExecutionIdField(
        allow_null=True, help_text="The execution from which this one goes on."
    )
    next_execution_id = ExecutionIdField(
        allow_null=True, help_text="The execution that goes on from this one."
    )
    latest_point = LatestPointSerializer(
        allow_null=True, help_text="The newest point of its story, such as a signal."
    )

    def to_representation(self, instance: Execution) -> JsonObject:
        return document.execution_fields(instance)


class ExecutionDetailSerializer(ExecutionSerializer):
    """An execution with what `include` asks for."""

    activities = ActivitySerializer(
        many=True, required=False, help_text="In the order of their positions, which never change."
    )
    workflow_definition = serializers.JSONField(
        required=False,
        allow_null=True,
        help_text="The planned graph as the execution's creator gave it; null where there is none.",
    )


class ErrorSerializer(serializers.Serializer[JsonObject]):
    detail = serializers.CharField(help_text="What was wrong, and what is accepted.")
    parameters = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        required=False,
        help_text="The query parameters at fault, each with what is accepted.",
    )
