"""Channels are found by their documents, and what does not fit together stops the start."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.urls import Resolver404, URLPattern

from streaming.consumer import ChannelConsumer
from streaming.discovery import ChannelMismatchError, channels_of_apps, channels_of_module
from streaming.routing import websocket_urlpatterns
from streaming.ws import execution_streaming

DOCUMENT = """\
asyncapi: 3.0.0
info: {title: Weather, version: 1.0.0}
channels:
  forecast:
    address: /ws/weather/{cityName}/{day}
"""
HANDLERS = """\
from pathlib import Path

from streaming.close_codes import CloseCode
from streaming.consumer import Closing

SPEC_PATH = Path(__file__).with_name("weather.asyncapi.yaml")


async def on_connect_forecast(connection):
    return Closing(CloseCode.DONE, "sunny")


async def handle_forecast(connection, text):
    return None
"""

MakeModule = Callable[..., ModuleType]


@pytest.fixture
def make_module(tmp_path: Path) -> MakeModule:
    """Makes a module with a document of this text (None: no file) and these attributes."""

    def make(document: str | bytes | None, *handlers: str, **attributes: Any) -> ModuleType:
        module = ModuleType("weather.ws.forecasts")
        spec_path = tmp_path / "weather.asyncapi.yaml"
        if isinstance(document, str):
            spec_path.write_text(document)
        elif document is not None:
            spec_path.write_bytes(document)
        vars(module).update({name: lambda *_: None for name in handlers})
        vars(module).update({"SPEC_PATH": spec_path} | attributes)
        return module

    return make


BOTH = ("on_connect_forecast", "handle_forecast")


class TestFitting:
    def test_channel_has_its_documents_address_and_its_modules_handlers(
        self, make_module: MakeModule
    ) -> None:
        module = make_module(DOCUMENT, *BOTH)
        (channel,) = channels_of_module(module)
        assert (channel.name, channel.address) == ("forecast", "/ws/weather/{cityName}/{day}")
        assert channel.on_connect is module.on_connect_forecast
        assert channel.handle is module.handle_forecast

    def test_several_channels_of_one_document(self, make_module: MakeModule) -> None:
        document = DOCUMENT + "  alarms:\n    address: /ws/alarms\n"
        module = make_module(document, *BOTH, "on_connect_alarms", "handle_alarms")
        assert [each.name for each in channels_of_module(module)] == ["forecast", "alarms"]

    def test_module_without_document_and_handlers_has_no_channels(self) -> None:
        assert channels_of_module(ModuleType("weather.ws.tables")) == []

    @pytest.mark.parametrize(
        ("path", "parameters"),
        [
            ("ws/weather/Ulm/monday", {"cityName": "Ulm", "day": "monday"}),
            ("ws/weather/Ulm/monday/", {"cityName": "Ulm", "day": "monday"}),
            ("ws/weather/a.b-c_d/1", {"cityName": "a.b-c_d", "day": "1"}),
        ],
    )
    def test_route_takes_the_addresss_parameters(
        self, make_module: MakeModule, path: str, parameters: dict[str, str]
    ) -> None:
        match = route_of(make_module(DOCUMENT, *BOTH)).resolve(path)
        assert match is not None
        assert match.kwargs == parameters

    @pytest.mark.parametrize(
        "path",
        ["ws/weather/Ulm", "ws/weather//monday", "ws/weather/Ulm/a/b", "x/ws/weather/a/b", "ws"],
    )
    def test_route_takes_nothing_else(self, make_module: MakeModule, path: str) -> None:
        assert route_of(make_module(DOCUMENT, *BOTH)).resolve(path) is None

    def test_address_is_no_pattern(self, make_module: MakeModule) -> None:
        document = DOCUMENT.replace("/ws/weather/", "/ws/we.ther+(x)/")
        route = route_of(make_module(document, *BOTH))
        assert route.resolve("ws/we.ther+(x)/Ulm/1") is not None
        assert route.resolve("ws/weather/Ulm/1") is None


def route_of(module: ModuleType) -> URLPattern:
    (channel,) = channels_of_module(module)
    return channel.route()


class TestMismatches:
    """Each error names the module and what it does not fit to."""

    def refused(self, module: ModuleType, *named: str) -> None:
        with pytest.raises(ChannelMismatchError) as refusal:
            channels_of_module(module)
        for name in ("weather.ws.forecasts", *named):
            assert name in str(refusal.value)

    @pytest.mark.parametrize("missing", BOTH)
    def test_channel_without_a_handler(self, make_module: MakeModule, missing: str) -> None:
        module = make_module(DOCUMENT, *(name for name in BOTH if name != missing))
        self.refused(module, "weather.asyncapi.yaml", "channel forecast", f"{missing}()")

    def test_handler_that_cannot_be_called(self, make_module: MakeModule) -> None:
        module = make_module(DOCUMENT, "on_connect_forecast", handle_forecast="no function")
        self.refused(module, "weather.asyncapi.yaml", "handle_forecast()")

    @pytest.mark.parametrize("handler", ["on_connect_sunset", "handle_sunset"])
    def test_handler_without_a_channel(self, make_module: MakeModule, handler: str) -> None:
        module = make_module(DOCUMENT, *BOTH, handler)
        self.refused(module, "weather.asyncapi.yaml", "sunset", "forecast")

    @pytest.mark.parametrize("handler", BOTH)
    def test_handler_in_a_module_that_names_no_document(self, handler: str) -> None:
        module = ModuleType("weather.ws.forecasts")
        setattr(module, handler, lambda *_: None)
        self.refused(module, "forecast", "SPEC_PATH")

    def test_document_that_does_not_exist(self, make_module: MakeModule) -> None:
        self.refused(make_module(None, *BOTH), "weather.asyncapi.yaml", "SPEC_PATH", "No such file")

    @pytest.mark.parametrize(
        "document",
        [
            "",
            "[1, 2]",
            "channels: [forecast]",
            "channels: 3",
            "asyncapi: 3.0.0",
            "channels: {forecast: 3}",
            "channels: {forecast: {title: no address}}",
            "channels: {forecast: {address: null}}",
            "channels: {forecast: {address: [a]}}",
            "channels: {forecast: {address: 3}}",
            "channels: {1: {address: /ws}}",
            "channels: {forecast: {$ref: '#/components/channels/forecast'}}",
            "channels: {forecast: {address: /ws",
            "channels: !!python/object/apply:os.system ['true']",
            b"channels: \xff\xfe",
            b"\x00\x01",
        ],
    )
    def test_document_without_channels_that_have_addresses(
        self, make_module: MakeModule, document: str | bytes
    ) -> None:
        self.refused(make_module(document, *BOTH), "weather.asyncapi.yaml", "SPEC_PATH")


@pytest.fixture
def weather_app(tmp_path: Path, settings: Any) -> Iterator[Path]:
    """An installed app with a `ws` package; its folder."""
    app = tmp_path / "weather"
    (app / "ws").mkdir(parents=True)
    (app / "__init__.py").write_text("")
    (app / "ws" / "__init__.py").write_text("")
    (app / "ws" / "forecasts.py").write_text(HANDLERS)
    (app / "ws" / "tables.py").write_text("SUNNY = 1\n")
    (app / "ws" / "weather.asyncapi.yaml").write_text(DOCUMENT)
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "weather"]
    yield app
    settings.INSTALLED_APPS = settings.INSTALLED_APPS[:-1]
    sys.path.remove(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "weather"]:
        del sys.modules[name]


class TestApps:
    def test_our_channel_is_found_in_our_app(self) -> None:
        (channel,) = channels_of_apps()
        assert channel.name == "activityUpdates"
        assert channel.on_connect is execution_streaming.on_connect_activityUpdates
        assert channel.handle is execution_streaming.handle_activityUpdates

    def test_channels_of_another_app_are_found_and_routed(self, weather_app: Path) -> None:
        assert [each.name for each in channels_of_apps()] == ["activityUpdates", "forecast"]
        assert [resolved(path) for path in PATHS] == ["activityUpdates", "forecast", None]

    def test_mismatch_in_any_app_stops_the_start(self, weather_app: Path) -> None:
        (weather_app / "ws" / "forecasts.py").write_text(HANDLERS.replace("handle_", "treat_"))
        with pytest.raises(ChannelMismatchError, match=r"weather\.ws\.forecasts"):
            websocket_urlpatterns()

    def test_every_other_path_reaches_a_consumer_that_answers(self) -> None:
        *_, elsewhere = websocket_urlpatterns()
        for path in ("", "anything", "api/v1/ws/executions/", "a\nb"):
            match = elsewhere.resolve(path)
            assert match is not None, path
            assert match.func.consumer_class is ChannelConsumer


PATHS = ("api/v1/ws/executions/abc", "ws/weather/Ulm/monday", "ws/weather")


def resolved(path: str) -> str | None:
    """The name of the first route that takes the path; None for the answer of last resort."""
    for pattern in websocket_urlpatterns():
        if (match := pattern.resolve(path)) is not None:
            name: str | None = match.url_name
            return name
    raise Resolver404(path)
