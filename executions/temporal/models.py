"""Tables of the mirror itself: who follows which run, how far, and registered definitions."""

from typing import ClassVar
from uuid import uuid4

from django.db import models

from executions.values import NAME_BYTES


class FollowerProcess(models.Model):
    """A process that follows runs; until `expires_at` (the database's clock) nobody else does."""

    process_id = models.UUIDField(primary_key=True, default=uuid4)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        verbose_name_plural = "follower processes"

    def __str__(self) -> str:
        return str(self.process_id)


class FollowedRun(models.Model):
    """An open run: which process follows it, and up to which event of its history."""

    run_id = models.CharField(primary_key=True, max_length=64)
    workflow_id = models.CharField(max_length=NAME_BYTES)
    namespace = models.CharField(max_length=NAME_BYTES)
    follower = models.ForeignKey(
        FollowerProcess, null=True, on_delete=models.SET_NULL, related_name="runs"
    )
    position = models.BigIntegerField(default=0)

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["namespace"],
                condition=models.Q(follower=None),
                name="run_without_follower",
            )
        ]

    def __str__(self) -> str:
        return f"{self.run_id} at {self.position}"


class RegisteredDefinition(models.Model):
    """The workflow definition of every run of a type that brings none of its own."""

    workflow_type = models.CharField(primary_key=True, max_length=NAME_BYTES)
    definition = models.JSONField()

    def __str__(self) -> str:
        return self.workflow_type


class ClosedRunsSeen(models.Model):
    """Up to when a task queue's closed runs (of all queues, where it is empty) were looked for.

    Without a namespace: up to when nobody looks for any, because such executions were removed.
    """

    namespace = models.CharField(max_length=NAME_BYTES)
    task_queue = models.CharField(max_length=NAME_BYTES, blank=True)
    closed_before = models.DateTimeField()

    class Meta:
        verbose_name_plural = "closed runs seen"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["namespace", "task_queue"], name="closed_runs_of_queue")
        ]

    def __str__(self) -> str:
        return f"{self.namespace}/{self.task_queue} to {self.closed_before}"
