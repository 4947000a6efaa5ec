"""Tables: executions, activities, what is known of them beyond the document, the event log.

How their rows may change is in `executions.recorded_rows`.
"""

from uuid import uuid4

from django.db import models
from django.utils import timezone

from executions.attempts import AttemptOutcome
from executions.identifiers import EventId
from executions.recorded_rows import RecordedModel, SavedThroughRecording
from executions.statuses import ActivityStatus, ExecutionStatus, PendingState
from executions.values import NAME_BYTES


def _link() -> "models.CharField[str | None, str | None]":
    """Names another execution, which need not be mirrored (yet, or any more)."""
    return models.CharField(max_length=64, null=True, blank=True)  # the document shows null


def _new_execution_id() -> str:
    return str(uuid4())


class Execution(SavedThroughRecording):
    """One run of a workflow."""

    execution_id = models.CharField(primary_key=True, max_length=64, default=_new_execution_id)
    workflow_id = models.CharField(max_length=NAME_BYTES, db_index=True)
    workflow_type = models.CharField(max_length=NAME_BYTES, db_index=True)
    run_id = models.CharField(max_length=NAME_BYTES, null=True, blank=True)  # noqa: DJ001 - the document shows null
    status = models.CharField(
        max_length=20,
        choices=[(status.value, status.value) for status in ExecutionStatus],
        default=ExecutionStatus.PENDING.value,
        db_index=True,
    )
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    error_details = models.JSONField(null=True, blank=True)
    parent_execution_id = _link()
    previous_execution_id = _link()
    next_execution_id = _link()
    latest_point = models.JSONField(null=True, blank=True)
    head_milliseconds = models.BigIntegerField(editable=False)
    head_sequence = models.BigIntegerField(editable=False)

    class Meta:
        permissions = (
            ("cancel_execution", "Can cancel execution"),
            ("terminate_execution", "Can terminate execution"),
            ("view_metrics", "Can view metrics"),
        )
        indexes = (
            models.Index(fields=["-created_at", "-execution_id"], name="execution_newest"),
            models.Index(fields=["-head_milliseconds"], name="execution_last_changed"),
        )

    def __str__(self) -> str:
        return self.execution_id

    @property
    def head(self) -> EventId:
        """The newest event's id."""
        return EventId(self.head_milliseconds, self.head_sequence)


class Activity(SavedThroughRecording):
    """One step of an execution, at a fixed position in the document's `activities`."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="activities")
    position = models.PositiveIntegerField(editable=False)
    activity_id = models.CharField(max_length=NAME_BYTES)
    activity_name = models.CharField(max_length=NAME_BYTES)
    activity_type = models.CharField(max_length=NAME_BYTES, default="activity")
    status = models.CharField(
        max_length=20,
        choices=[(status.value, status.value) for status in ActivityStatus],
        default=ActivityStatus.PENDING.value,
    )
    pending_state = models.CharField(  # noqa: DJ001 - the document shows null
        max_length=20,
        choices=[(state.value, state.value) for state in PendingState],
        null=True,
        blank=True,
    )
    attempt = models.PositiveIntegerField(default=1)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    error_details = models.JSONField(null=True, blank=True)
    depends_on = models.JSONField(default=list, blank=True)
    progress = models.FloatField(null=True, blank=True)
    child_execution_id = _link()

    class Meta:
        verbose_name_plural = "activities"
        constraints = (
            models.UniqueConstraint(fields=["execution", "position"], name="activity_position"),
            models.UniqueConstraint(fields=["execution", "activity_id"], name="activity_id"),
        )

    def __str__(self) -> str:
        return f"{self.activity_name} ({self.activity_id})"


class ActivityDetails(RecordedModel):
    """What is known of an activity beyond the document: written by `executions.ledger`."""

    execution = models.ForeignKey(
        Execution, on_delete=models.CASCADE, related_name="activity_details"
    )
    activity_id = models.CharField(max_length=NAME_BYTES)
    engine_activity_id = models.CharField(max_length=NAME_BYTES)
    task_queue = models.CharField(max_length=NAME_BYTES, blank=True)
    options = models.JSONField(default=dict)
    input = models.JSONField(null=True, blank=True)
    output = models.JSONField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "activity details"
        constraints = (
            models.UniqueConstraint(fields=["execution", "activity_id"], name="details_activity"),
        )
        indexes = (
            models.Index(fields=["execution", "engine_activity_id"], name="details_engine_id"),
        )

    def __str__(self) -> str:
        return f"details of {self.activity_id} of {self.execution_id}"


class Attempt(RecordedModel):
    """One try of an activity: written by `executions.ledger`, kept when others follow."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="attempts")
    activity_id = models.CharField(max_length=NAME_BYTES)
    number = models.PositiveIntegerField()
    outcome = models.CharField(
        max_length=20,
        choices=[(outcome.value, outcome.value) for outcome in AttemptOutcome],
        default=AttemptOutcome.RUNNING.value,
    )
    worker_identity = models.CharField(max_length=NAME_BYTES, blank=True)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    failure = models.JSONField(null=True, blank=True)
    next_attempt_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True)
    heartbeat_details = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ("execution", "activity_id", "number")
        constraints = (
            models.UniqueConstraint(
                fields=["execution", "activity_id", "number"], name="attempt_number"
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.activity_id} of {self.execution_id}"


class Point(RecordedModel):
    """Something that happened in a run and is no activity: a signal, an update, a request."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="points")
    engine_event_id = models.BigIntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=NAME_BYTES)
    name = models.CharField(max_length=NAME_BYTES, blank=True)
    details = models.JSONField(null=True, blank=True)

    class Meta:
        ordering = ("execution", "engine_event_id")
        constraints = (
            models.UniqueConstraint(fields=["execution", "engine_event_id"], name="point_event"),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.name} in {self.execution_id}"


class WorkflowDefinition(RecordedModel):
    """The planned graph of an execution, as its creator gave it; never changes."""

    execution = models.OneToOneField(
        Execution, on_delete=models.CASCADE, primary_key=True, related_name="workflow_definition"
    )
    definition = models.JSONField()

    def __str__(self) -> str:
        return f"definition of {self.execution_id}"


class Event(RecordedModel):
    """One committed change: the truth that a stream can be rebuilt from."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="events")
    sequence = models.BigIntegerField()
    milliseconds = models.BigIntegerField()
    message = models.TextField()

    class Meta:
        ordering = ("execution", "sequence")
        constraints = (
            models.UniqueConstraint(fields=["execution", "sequence"], name="event_sequence"),
        )

    def __str__(self) -> str:
        return f"{self.execution_id} {self.event_id}"

    @property
    def event_id(self) -> EventId:
        return EventId(self.milliseconds, self.sequence)
