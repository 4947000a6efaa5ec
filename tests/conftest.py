"""Fixtures of every test: the session's servers, started when a test first needs one."""

import shutil
from collections.abc import Iterator

import pytest

from tests import settings
from tests.servers.postgresql import postgresql_running


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
