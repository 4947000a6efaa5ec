"""Adds to the admin's page of an execution how far its stream has come."""

from typing import ClassVar

from django.contrib import admin

from executions.admin import ExecutionAdmin
from executions.models import Execution
from streaming.stream import StreamWriter
from streaming.valkey.clients import UNREACHABLE, writing_client

admin.site.unregister(Execution)


@admin.register(Execution)
class StreamedExecutionAdmin(ExecutionAdmin):
    fields: ClassVar[tuple[str, ...]] = (*ExecutionAdmin.fields, "stream_top")

    @admin.display(description="stream's top")
    def stream_top(self, execution: Execution) -> str:
        """The newest event in Valkey, compared with the head."""
        client = writing_client()
        try:
            (top,) = StreamWriter(client).tops([execution.execution_id])
        except UNREACHABLE as error:
            return f"unknown: Valkey cannot be reached ({error})"
        finally:
            client.close()
        if top is None:
            return "no stream: it is filled when somebody views the execution"
        if top == execution.head:
            return f"{top}: equal to the head"
        if top.contradicts(execution.head) or top.sequence > execution.head.sequence:
            return f"{top}: not of this event log, to be replaced"
        missing = execution.head.sequence - top.sequence
        return f"{top}: {missing} events behind the head, to be filled in"
