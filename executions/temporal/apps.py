"""The Django app of the Temporal mirror."""

from django.apps import AppConfig

from executions.signals import execution_removed


class TemporalConfig(AppConfig):
    name = "executions.temporal"
    label = "temporal"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from executions.temporal import retention

        execution_removed.connect(retention.forget_run, dispatch_uid="temporal")
