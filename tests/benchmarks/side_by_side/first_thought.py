"""What one would write first: a consumer that reads the stream for itself, one on channel groups.

Both serve `/api/v1/ws/executions/{execution_id}` on the same Daphne, Valkey and streams.
"""

import asyncio
import json
import os
from typing import Any, Final

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexus_project.settings")
django.setup()

import redis.asyncio  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402

GROUP: Final = "execution.{}"

_ROUTE: Final = "api/v1/ws/executions/<str:execution_id>"
_BLOCK_MILLISECONDS: Final = 5_000


class StreamReadingConsumer(AsyncJsonWebsocketConsumer):
    """A blocking XREAD on a connection of its own, and JSON encoded for each client."""

    channel_layer_alias = "none"

    async def connect(self) -> None:
        await self.accept()
        self._reading = asyncio.create_task(self._read())

    async def disconnect(self, code: int) -> None:
        self._reading.cancel()

    async def _read(self) -> None:
        key = f"execution:{self.scope['url_route']['kwargs']['execution_id']}:events"
        last = "0-0"
        client = redis.asyncio.Redis.from_url(
            settings.VALKEY_URL, decode_responses=True, socket_timeout=None
        )
        async with client:
            # Event 0 has the id <milliseconds>-0, which comes after 0-0.
            while True:
                found: Any = await client.xread({key: last}, block=_BLOCK_MILLISECONDS)
                for _, entries in found or ():
                    for entry_id, fields in entries:
                        last = entry_id
                        await self.send_json(json.loads(fields["message"]))


class GroupConsumer(AsyncJsonWebsocketConsumer):
    """Told by a channel-layer group; the group's message is encoded for each client."""

    async def connect(self) -> None:
        self._group = GROUP.format(self.scope["url_route"]["kwargs"]["execution_id"])
        await self.channel_layer.group_add(self._group, self.channel_name)
        await self.accept()
        await self.send_json({"type": "welcome"})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self._group, self.channel_name)

    async def activity_update(self, event: dict[str, Any]) -> None:
        await self.send_json(event["message"])


def _served_by(consumer: Any) -> Any:
    return ProtocolTypeRouter(
        {
            "http": get_asgi_application(),
            "websocket": URLRouter([path(_ROUTE, consumer.as_asgi())]),
        }
    )


stream_reading = _served_by(StreamReadingConsumer)
groups = _served_by(GroupConsumer)
