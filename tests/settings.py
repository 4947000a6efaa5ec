"""The project's settings over servers of the test session's own.

NEXUS_TEST_DATABASE chooses the database: `sqlite` (a file; the default) or
`postgresql` (started from its wheel by tests/conftest.py).
"""

import os
import tempfile
from pathlib import Path

SESSION_DIR = Path(tempfile.mkdtemp(prefix="nexus-tests-"))
DATABASE_KIND = os.environ.get("NEXUS_TEST_DATABASE", "sqlite")
POSTGRESQL_DIR = SESSION_DIR / "postgresql"
VALKEY_DIR = SESSION_DIR / "valkey"

os.environ["NEXUS_DATA_DIR"] = str(SESSION_DIR / "data")
os.environ["VALKEY_URL"] = f"unix://{VALKEY_DIR / 'valkey.sock'}"
os.environ["NEXUS_OPEN_READING"] = "0"
TEST_DATABASE_NAME = {"sqlite": str(SESSION_DIR / "test.sqlite3"), "postgresql": "test_nexus"}[
    DATABASE_KIND
]
os.environ["DATABASE_URL"] = {
    "sqlite": f"sqlite:///{SESSION_DIR / 'nexus.sqlite3'}",
    "postgresql": f"postgresql://nexus@/nexus?host={POSTGRESQL_DIR}",
}[DATABASE_KIND]
TEST_DATABASE_URL = {
    "sqlite": f"sqlite:///{TEST_DATABASE_NAME}",
    "postgresql": f"postgresql://nexus@/{TEST_DATABASE_NAME}?host={POSTGRESQL_DIR}",
}[DATABASE_KIND]
"""For processes that a test starts: what is `default` here is theirs by this address."""

from nexus_project.settings import *  # noqa: E402, F403
from nexus_project.settings import DATABASES  # noqa: E402

DATABASES["default"]["TEST"] = {"NAME": TEST_DATABASE_NAME}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
