"""Tables: executions, activities, workflow definitions and the event log.

Rows change only through `executions.recording`. `save()` goes that way by itself;
what would slip past it raises UnrecordedWriteError.
"""

from collections.abc import Collection, Iterable
from copy import copy
from typing import Any, ClassVar, NoReturn, Self, TypeVar
from uuid import uuid4

from django.db import models
from django.utils import timezone

from executions.identifiers import EventId
from executions.statuses import ActivityStatus, ExecutionStatus
from executions.values import NAME_BYTES

RowT = TypeVar("RowT", bound=models.Model)


class UnrecordedWriteError(RuntimeError):
    """A write that would change rows without an event; the message says what to call."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} would change rows without an event, so no viewer would learn of it: "
            "use executions.recording.changing() or create_execution()"
        )


class RecordedQuerySet(models.QuerySet[RowT]):
    """Reads like any other; refuses to write past the one write path."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.update()")

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.bulk_create()")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.bulk_update()")

    def delete(self) -> NoReturn:
        raise UnrecordedWriteError(f"{self.model.__name__}.objects.delete()")


class RecordedModel(models.Model):
    """A row that is written only by `executions.recording`."""

    objects = RecordedQuerySet.as_manager()
    unrecorded_writes: ClassVar[models.Manager[Self]] = models.Manager()
    """The way past the write path, for `executions.recording` itself."""

    class Meta:
        abstract = True
        # related managers' add() and set() write through the base manager
        base_manager_name = "objects"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise UnrecordedWriteError(f"{type(self).__name__}.save()")

    def save_base(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{type(self).__name__}.save_base()")

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnrecordedWriteError(f"{type(self).__name__}.delete()")


class SavedThroughRecording(RecordedModel):
    """A row whose `save()` records what was changed on it since it was loaded."""

    class Meta:
        abstract = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loaded: dict[str, Any] = {}

    def save(
        self,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Record this object as one event; raises what `executions.recording` raises.

        Only fields changed since loading are written, so that a stale object takes
        nothing back; `update_fields` narrows them further, and leaves the others changed.
        """
        from executions import recording

        recording.record_saved(self, update_fields)

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        row = super().from_db(*args, **kwargs)
        row.remember_loaded()
        return row

    def refresh_from_db(
        self,
        using: str | None = None,
        fields: Iterable[str] | None = None,
        from_queryset: models.QuerySet[Self] | None = None,
    ) -> None:
        """As Django's; what is read is what `save()` compares with from here on."""
        names = None if fields is None else list(fields)
        super().refresh_from_db(using, names, from_queryset)
        self.remember_loaded(names)

    def remember_loaded(self, names: Collection[str] | None = None) -> None:
        """Take the present values as those from which `save()` tells what changed.

        All that are there, or those of the fields of these names.
        """
        for field in self._meta.concrete_fields:
            known = field.attname in self.__dict__
            if known and (names is None or field.name in names or field.attname in names):
                self._loaded[field.attname] = copy(self.__dict__[field.attname])

    def loaded_value(self, name: str) -> Any:
        """The value the field had when the row was loaded; a deferred one is read."""
        if name not in self._loaded:
            row = type(self).objects.filter(pk=self._loaded[self._meta.pk.attname])
            self._loaded[name] = row.values_list(name, flat=True).get()
        return self._loaded[name]

    def take_over(self, recorded: "SavedThroughRecording") -> None:
        """Become equal to a row that has just been recorded."""
        for field in self._meta.concrete_fields:
            setattr(self, field.attname, getattr(recorded, field.attname))
        self._state.adding = False
        self._state.db = recorded._state.db
        self.remember_loaded()

    def changed_values(self) -> dict[str, Any]:
        """The fields set since the row was loaded, with their values."""
        names = [field.attname for field in self._meta.concrete_fields]
        return {
            name: self.__dict__[name]
            for name in names
            if name in self.__dict__
            and (name not in self._loaded or self.__dict__[name] != self._loaded[name])
        }


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
    head_milliseconds = models.BigIntegerField(editable=False)
    head_sequence = models.BigIntegerField(editable=False)

    class Meta:
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
    attempt = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    error_details = models.JSONField(null=True, blank=True)
    depends_on = models.JSONField(default=list, blank=True)
    progress = models.FloatField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "activities"
        constraints = (
            models.UniqueConstraint(fields=["execution", "position"], name="activity_position"),
            models.UniqueConstraint(fields=["execution", "activity_id"], name="activity_id"),
        )

    def __str__(self) -> str:
        return f"{self.activity_name} ({self.activity_id})"


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
