"""What is counted and logged of one connection, from its accepting to its end."""

import time
from typing import Any, Final

import structlog

from streaming import metrics

ABNORMAL: Final = 1006
"""The connection was lost without a close (RFC 6455, section 7.1.5)."""

log = structlog.get_logger(__name__)


class ConnectionRecord:
    """Counts the connection as open until `end`. The first close that is told of counts."""

    def __init__(self, execution_id: str | None) -> None:
        self.messages_sent = 0
        self._execution_id = execution_id
        self._began = time.monotonic()
        self._close: tuple[int, str, bool] | None = None
        metrics.connections.inc()

    def admitted(self, user: Any) -> None:
        """The connection has its place, and it is known who asks."""
        log.info("connection_opened", execution_id=self._execution_id, user=_told(user))

    def closed(self, code: int | None, reason: str | None, *, by_server: bool) -> None:
        """The server closes it, or it was closed otherwise."""
        if self._close is None:
            self._close = code or 1000, reason or "", by_server

    def end(self, user: Any) -> None:
        """The connection is no more."""
        code, reason, by_server = self._close or (ABNORMAL, "", False)
        metrics.connections.dec()
        metrics.closed(code, by_server=by_server)
        log.info(
            "connection_closed",
            execution_id=self._execution_id,
            user=_told(user),
            code=code,
            reason=reason,
            by="server" if by_server else "client",
            seconds=round(time.monotonic() - self._began, 3),
            messages_sent=self.messages_sent,
        )


def _told(user: Any) -> Any:
    return "anonymous" if user.pk is None else user.pk
