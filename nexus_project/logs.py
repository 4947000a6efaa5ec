"""The form of log lines: key=value or JSON, and never with the credentials of an address."""

import logging
import re
from typing import Any, Final

import structlog
from django.core.exceptions import SuspiciousOperation
from structlog.typing import WrappedLogger

_CREDENTIALS: Final = re.compile(r"(?<=://)[^\s\"'<>]*@")


def without_credentials(text: str) -> str:
    """The text with `***` in place of what stands before the `@` of its addresses."""
    return _CREDENTIALS.sub("***@", text)


def line_processors(form: str) -> list[Any]:
    """What makes an entry a line: `line` for key=value, `json` for an object."""
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "logger", "event"]
        )
    )
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        renderer,
        _hide_credentials,
    ]


def plainly(record: logging.LogRecord) -> bool:
    """A filter: what Django refuses of a request is one line, a warning, and no trace.

    Anybody can send such requests: a wrong Host, for one.
    """
    if record.exc_info and isinstance(record.exc_info[1], SuspiciousOperation):
        record.exc_info = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _hide_credentials(logger: WrappedLogger, method: str, line: Any) -> str:
    # Last, so that it covers other libraries' messages and tracebacks as well.
    return without_credentials(line)
