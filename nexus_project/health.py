"""The probes of a web process: /health/live and /health/ready.

Answered before Django sees the request: a probe asks by the process' own IP address,
which is no allowed host, and does not wait for the threads that middleware runs in.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from executions.health import LATE, Check, DatabaseCheck, Readiness, asked_of_receivers
from streaming.hub import hub

FIRST_HEARING_SECONDS: Final = 0.5
"""How long the first probe of a process waits for the hub that it makes."""


class Probes:
    """ASGI middleware for HTTP: answers probes, and hands everything else on.

    Live means that the event loop answers. Ready means that all is well with Valkey, the
    database and what this process is to publish; 503 otherwise, within
    `executions.health.ANSWER_SECONDS`. Both need no login, and tell no secret.
    """

    def __init__(self, application: Any) -> None:
        self._application = application
        self._database = DatabaseCheck()
        self._readiness = Readiness()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        asked = scope["path"] if scope["method"] in ("GET", "HEAD") else None
        if asked == "/health/live":
            await _answer(send, 200, {"live": True})
        elif asked == "/health/ready":
            status, body = self._readiness.answer(await self._checks())
            await _answer(send, status, body)
        else:
            await self._application(scope, receive, send)

    async def _checks(self) -> Sequence[Check]:
        valkey_and_database = await asyncio.gather(_check_valkey(), self._check_database())
        return *valkey_and_database, *asked_of_receivers()

    async def _check_database(self) -> Check:
        question = self._database.ask()
        seconds_left = max(0.0, question.late_at - time.monotonic())
        answer = asyncio.wrap_future(question.answer)
        await asyncio.wait({answer}, timeout=seconds_left)
        return answer.result() if answer.done() else LATE


async def _check_valkey() -> Check:
    # Makes the hub of this process, if no viewer has.
    await hub().until_it_has_heard(FIRST_HEARING_SECONDS)
    if hub().hears_valkey:
        return Check("valkey", True, "The hub hears Valkey.")
    return Check("valkey", False, "The hub does not hear Valkey.")


async def _answer(send: Any, status: int, body: dict[str, Any]) -> None:
    content = msgspec.json.encode(body)
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
