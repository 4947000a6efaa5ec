"""What is shown beyond the document, as the OpenAPI document shows it.

What is sent of an activity is made by `activity_details`; a test holds these fields to it.
"""

from rest_framework import serializers

from executions import document
from executions.api.serializers import MOMENT, ActivitySerializer, StatusField
from executions.attempts import AttemptOutcome
from executions.document import JsonObject
from executions.models import Point


class ShownPayloadSerializer(serializers.Serializer[JsonObject]):
    """A value that a workflow gave or got, as far as it can be shown."""

    encoding = serializers.CharField(help_text="As its data converter named it; may be empty.")
    size_bytes = serializers.IntegerField(min_value=0, help_text="Of the whole payload.")
    value = serializers.JSONField(
        allow_null=True,
        help_text="Any JSON; base64 text where it is binary; text where it is cut.",
    )
    is_cut = serializers.BooleanField(help_text="Whether `value` is only its beginning.")
    problem = serializers.CharField(allow_null=True, help_text="Why it is not shown as it is.")


class FailureSerializer(serializers.Serializer[JsonObject]):
    type = serializers.CharField(allow_null=True, help_text="The failure's kind, where known.")
    message = serializers.CharField()
    stack_trace = serializers.CharField(help_text="Empty where there is none.")


class AttemptSerializer(serializers.Serializer[JsonObject]):
    number = serializers.IntegerField(min_value=1)
    outcome = StatusField(
        AttemptOutcome, help_text="`unknown` where a later attempt began and nobody saw this end."
    )
    worker_identity = serializers.CharField(allow_null=True)
    scheduled_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    started_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    ended_at = serializers.DateTimeField(allow_null=True, help_text=MOMENT)
    failure = FailureSerializer(allow_null=True)
    backoff_seconds = serializers.FloatField(
        allow_null=True, min_value=0, help_text="From its end to the next attempt."
    )
    next_attempt_at = serializers.DateTimeField(
        allow_null=True, help_text=f"When the next attempt was or is due. {MOMENT}"
    )
    heartbeat_at = serializers.DateTimeField(
        allow_null=True, help_text=f"Of the last heartbeat. {MOMENT}"
    )
    heartbeat_details = ShownPayloadSerializer(
        many=True, allow_null=True, help_text="Of the last heartbeat."
    )


class ActivityDetailSerializer(ActivitySerializer):
    position = serializers.IntegerField(
        min_value=0, help_text="Its index in the execution's `activities`."
    )
    task_queue = serializers.CharField(allow_null=True)
    options = serializers.DictField(
        help_text="With which it was scheduled, such as timeouts and the retry policy."
    )
    input = ShownPayloadSerializer(
        many=True, allow_null=True, help_text="Its arguments; null where not known."
    )
    output = ShownPayloadSerializer(
        many=True, allow_null=True, help_text="What it returned; null where not known."
    )
    attempts = AttemptSerializer(many=True, help_text="In the order of their numbers.")
    attempts_omitted = serializers.IntegerField(
        min_value=0, help_text="How many older ones are left out of `attempts`."
    )


class PointSerializer(serializers.Serializer[Point]):
    engine_event_id = serializers.IntegerField(
        help_text="The id of the event in the workflow engine's history."
    )
    at = serializers.DateTimeField(help_text=MOMENT)
    kind = serializers.CharField()
    name = serializers.CharField(allow_null=True, help_text="Such as the signal's.")
    details = serializers.DictField(allow_null=True)

    def to_representation(self, instance: Point) -> JsonObject:
        return {
            "engine_event_id": instance.engine_event_id,
            "at": document.rfc3339(instance.at),
            "kind": instance.kind,
            "name": instance.name or None,
            "details": instance.details,
        }
