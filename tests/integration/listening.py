"""Hearing what is announced on a channel, as any subscriber would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.servers.valkey import ValkeyServer

_END: Final = "that was all"


@contextmanager
def announcements_heard(valkey: ValkeyServer, channel: str) -> Iterator[Callable[[], list[str]]]:
    """Gives a function that returns what was announced since it was last called."""
    client: Any = valkey.client
    with client.pubsub(ignore_subscribe_messages=True) as listening:
        listening.ssubscribe(channel)

        def since() -> list[str]:
            client.spublish(channel, _END)
            heard: list[str] = []
            while not heard or heard[-1] != _END:
                message = listening.get_message(timeout=10)
                if message is not None:
                    heard.append(message["data"])
            return heard[:-1]

        since()
        yield since
