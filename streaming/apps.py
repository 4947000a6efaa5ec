"""The Django app of streaming: publishes what executions say they committed."""

from django.apps import AppConfig


class StreamingConfig(AppConfig):
    name = "streaming"

    def ready(self) -> None:
        pass
