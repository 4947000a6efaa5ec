"""The Django app of the Temporal mirror."""

from django.apps import AppConfig


class TemporalConfig(AppConfig):
    name = "executions.temporal"
    label = "temporal"
    default_auto_field = "django.db.models.BigAutoField"
