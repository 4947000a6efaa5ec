"""Fixtures of every test: the session's servers, started when a test first needs one."""

import shutil
from collections.abc import Iterator

import hypothesis
import pytest

from streaming.activity_update_publisher import publisher
from tests import settings
from tests.fuzzing.effort import TIMES
from tests.servers.postgresql import postgresql_running
from tests.servers.valkey import ValkeyServer, valkey_running
from tests.servers.web import WebServer, session_environment, web_running
from tests.viewers import Viewers, viewers_running

hypothesis.settings.register_profile("nexus", derandomize=TIMES == 0)
hypothesis.settings.load_profile("nexus")


@pytest.fixture(scope="session", autouse=True)
def session_directory() -> Iterator[None]:
    yield
    shutil.rmtree(settings.SESSION_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(session_directory: None) -> Iterator[None]:
    if settings.DATABASE_KIND == "sqlite":
        yield
        return
    with postgresql_running(settings.POSTGRESQL_DIR):
        yield


@pytest.fixture(scope="session")
def session_valkey(session_directory: None) -> Iterator[ValkeyServer]:
    with valkey_running(settings.VALKEY_DIR) as server:
        yield server


@pytest.fixture
def valkey(session_valkey: ValkeyServer) -> Iterator[ValkeyServer]:
    """The Valkey that the settings name, empty; running again afterwards whatever a test did."""
    session_valkey.client.flushall()
    yield session_valkey
    session_valkey.ensure_running()
    publisher().wait_until_filled(10)


@pytest.fixture(scope="session")
def lonely_valkey(session_directory: None) -> Iterator[ValkeyServer]:
    """A Valkey that no web server of the session is connected to."""
    with valkey_running(settings.SESSION_DIR / "lonely") as server:
        yield server


@pytest.fixture
def viewers() -> Iterator[Viewers]:
    """Opens WebSocket clients, and closes those that are left."""
    with viewers_running() as running:
        yield running


@pytest.fixture(scope="session")
def open_web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    """A web server where anyone may read, with a heartbeat every half second."""
    environment = session_environment(NEXUS_OPEN_READING="1", NEXUS_HEARTBEAT_SECONDS="0.5")
    with web_running(settings.SESSION_DIR / "open-web.log", environment) as server:
        yield server


@pytest.fixture(scope="session")
def guarded_web(django_db_setup: None, session_valkey: ValkeyServer) -> Iterator[WebServer]:
    """A web server where reading needs a login and the permission."""
    with web_running(settings.SESSION_DIR / "guarded-web.log", session_environment()) as server:
        yield server
