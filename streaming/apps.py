"""The Django app of streaming: publishes what executions say they committed."""

from django.apps import AppConfig

from executions.signals import (
    events_committed,
    execution_removed,
    health_asked,
    writing_begins,
)


class StreamingConfig(AppConfig):
    name = "streaming"

    def ready(self) -> None:
        from streaming import activity_update_publisher as publisher
        from streaming import health
        from streaming.access import notices

        events_committed.connect(publisher.publish_committed, dispatch_uid="streaming")
        writing_begins.connect(publisher.sweep_before_writing, dispatch_uid="streaming")
        execution_removed.connect(publisher.drop_removed, dispatch_uid="streaming")
        health_asked.connect(health.check_publishing, dispatch_uid="streaming")
        notices.connect_signals()
