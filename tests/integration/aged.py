"""Executions that were written days ago, for tests of what happens to old ones."""

from datetime import timedelta

from django.db.models import F

from executions.models import Event, Execution


def age(execution_id: str, days: float, *, up_to: int = 2**62) -> None:
    """Make the execution so much older, or its events up to a sequence.

    Ids in texts stay as they are: who looks into those is not to be given aged ones.
    """
    milliseconds = int(days * 86_400_000)
    events = Event.unrecorded_writes.filter(execution_id=execution_id, sequence__lte=up_to)
    events.update(milliseconds=F("milliseconds") - milliseconds)
    execution = Execution.unrecorded_writes.filter(pk=execution_id, head_sequence__lte=up_to)
    execution.update(head_milliseconds=F("head_milliseconds") - milliseconds)
    execution.update(completed_at=F("completed_at") - timedelta(days=days))
