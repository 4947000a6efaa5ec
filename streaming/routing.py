"""The WebSocket routes: every discovered channel, and an answer where there is none."""

from typing import Any

from django.urls import re_path

from streaming.close_codes import CloseCode
from streaming.consumer import ChannelConsumer, Closing, Connection
from streaming.discovery import channels_of_apps


async def _refuse(connection: Connection) -> Closing:
    return Closing(CloseCode.NOT_FOUND, "there is no such channel")


async def _ignore(connection: Connection, text: str | bytes) -> None:
    return None


def websocket_urlpatterns() -> list[Any]:
    """Routes for channels' URLRouter; raises discovery.ChannelMismatchError."""
    elsewhere: Any = ChannelConsumer.as_asgi(on_connect=_refuse, handle=_ignore)
    return [*(channel.route() for channel in channels_of_apps()), re_path(r"", elsewhere)]
