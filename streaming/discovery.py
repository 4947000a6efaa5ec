"""Finding channels: an app's `ws` modules, the AsyncAPI document each names, its handlers.

A module names its document in `SPEC_PATH` and defines, for each channel `name` of it,
`on_connect_name()` and `handle_name()`. The route is the channel's address. What does
not fit together stops the start with an error that names both sides.
"""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Final, NamedTuple

import yaml
from django.apps import apps
from django.urls import URLPattern, re_path

from streaming.consumer import ChannelConsumer, Handle, OnConnect

_PARAMETER: Final = re.compile(r"\\\{([A-Za-z_][A-Za-z0-9_]*)\\\}")
_HANDLER: Final = re.compile(r"(on_connect|handle)_(.+)")


class ChannelMismatchError(Exception):
    """A document and its module do not fit together; the message names both."""


class Channel(NamedTuple):
    """A channel of an AsyncAPI document with its handlers."""

    name: str
    address: str
    on_connect: OnConnect
    handle: Handle

    def route(self) -> URLPattern:
        """The WebSocket route of the channel's address."""
        pattern = _PARAMETER.sub(r"(?P<\1>[^/]+)", re.escape(self.address.lstrip("/")))
        consumer: Any = ChannelConsumer.as_asgi(on_connect=self.on_connect, handle=self.handle)
        route: URLPattern = re_path(rf"^{pattern}/?$", consumer, name=self.name)
        return route


def channels_of_apps() -> list[Channel]:
    """The channels of every installed app that has a `ws` package."""
    return [
        channel
        for config in apps.get_app_configs()
        for module in _ws_modules(config.module)
        for channel in channels_of_module(module)
    ]


def channels_of_module(module: ModuleType) -> list[Channel]:
    """The channels of one module; none without SPEC_PATH. Raises ChannelMismatchError."""
    spec_path = getattr(module, "SPEC_PATH", None)
    handled = {match[2] for name in vars(module) if (match := _HANDLER.fullmatch(name))}
    if spec_path is None:
        if handled:
            raise ChannelMismatchError(
                f"{module.__name__} has handlers for {_listed(handled)}, "
                "but names no AsyncAPI document in SPEC_PATH"
            )
        return []
    documented = _documented_channels(Path(spec_path), module)
    if unknown := handled - documented.keys():
        raise ChannelMismatchError(
            f"{module.__name__} has handlers for {_listed(unknown)}, "
            f"but {spec_path} has no such channel (it has {_listed(documented)})"
        )
    channels = []
    for name, address in documented.items():
        for prefix in ("on_connect", "handle"):
            if not callable(getattr(module, f"{prefix}_{name}", None)):
                raise ChannelMismatchError(
                    f"{spec_path} has the channel {name}, but {module.__name__} "
                    f"does not define {prefix}_{name}()"
                )
        channels.append(
            Channel(
                name,
                address,
                getattr(module, f"on_connect_{name}"),
                getattr(module, f"handle_{name}"),
            )
        )
    return channels


def _ws_modules(app: ModuleType | None) -> Iterator[ModuleType]:
    if app is None:
        return
    package_name = f"{app.__name__}.ws"
    paths = [str(Path(path) / "ws") for path in getattr(app, "__path__", ())]
    for found in iter_modules(paths):
        yield import_module(f"{package_name}.{found.name}")


def _documented_channels(spec_path: Path, module: ModuleType) -> dict[str, str]:
    """Channel names and addresses of an AsyncAPI document."""
    try:
        document: Any = yaml.safe_load(spec_path.read_text(encoding="utf-8"))
        channels = {name: channel["address"] for name, channel in document["channels"].items()}
        if not all(isinstance(text, str) for item in channels.items() for text in item):
            raise TypeError(f"names and addresses are texts, not {channels}")
        return channels
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ChannelMismatchError(
            f"{spec_path}, named by {module.__name__}.SPEC_PATH, is not an AsyncAPI 3 document "
            f"with channels that have addresses: {type(error).__name__} {error}"
        ) from error


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))
