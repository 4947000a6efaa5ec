"""Adopting Nexus in one's own Django project, word for word as the README says."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.readme import PROJECT, code_blocks
from tests.servers.valkey import ValkeyServer
from tests.servers.web import WebServer, web_running
from tests.viewers import Viewers

pytestmark = pytest.mark.acceptance

IN_SETTINGS, IN_URLS, IN_ASGI, WRITING = code_blocks("In your own Django project")

SETTINGS = """
from pathlib import Path
SECRET_KEY = "for this test alone"
USE_TZ = True
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "ownproject.urls"
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db"}
}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
INSTALLED_APPS = [
    "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
]
"""

LOGIN = """
from django.contrib.auth.models import Permission, User
from django.test import Client
user = User.objects.create_user("olga")
user.user_permissions.set(Permission.objects.filter(codename="view_execution"))
client = Client()
client.force_login(user)
print(client.cookies["sessionid"].value)
"""

FINISH = """
with changing("order-1042") as change:
    change.activity("charge").status = ActivityStatus.COMPLETED
    change.execution.status = ExecutionStatus.COMPLETED
from streaming.activity_update_publisher import publisher
publisher().wait_until_filled(10)
"""


class OwnProject:
    """A Django project beside this one, and commands run in it."""

    def __init__(self, directory: Path, valkey_url: str) -> None:
        package = directory / "ownproject"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "settings.py").write_text(
            f"{SETTINGS}\n{IN_SETTINGS}\nVALKEY_URL = {valkey_url!r}\n"
        )
        (package / "urls.py").write_text(
            f"from django.urls import include, path\nurlpatterns = []\n{IN_URLS}\n"
        )
        (package / "asgi.py").write_text(IN_ASGI)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "NEXUS" not in name},
            "PYTHONPATH": f"{directory}{os.pathsep}{PROJECT}",
            "DJANGO_SETTINGS_MODULE": "ownproject.settings",
        }

    def run(self, *arguments: str) -> str:
        """Run Python with these arguments; what it printed."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def run_code(self, code: str) -> str:
        return self.run("-c", f"import django\ndjango.setup()\n{code}")


@pytest.fixture
def project(tmp_path: Path, valkey: ValkeyServer) -> OwnProject:
    project = OwnProject(tmp_path, valkey.url)
    project.run("-m", "django", "check", "--fail-level", "WARNING")
    project.run("-m", "django", "migrate", "--verbosity", "0")
    return project


@pytest.fixture
def web(project: OwnProject, tmp_path: Path) -> Iterator[WebServer]:
    with web_running(
        tmp_path / "web.log", project.environment, application="ownproject.asgi:application"
    ) as server:
        yield server


@pytest.mark.django_db(transaction=True)
def test_what_the_readme_says_gives_rest_and_a_live_verifiable_stream(
    project: OwnProject, web: WebServer, viewers: Viewers
) -> None:
    cookie = {"Cookie": f"sessionid={project.run_code(LOGIN).strip()}"}
    project.run_code(WRITING)
    request = urllib.request.Request(  # noqa: S310
        f"{web.http}/api/v1/executions/order-1042", headers=cookie
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        assert b'"status":"running"' in answer.read()
    with urllib.request.urlopen(f"{web.http}/api/v1/schema", timeout=10) as answer:  # noqa: S310
        assert answer.status == 200
    viewer = viewers.open(web.stream("order-1042", "0"), cookie)
    viewer.wait_for_messages(2)
    project.run_code(f"{WRITING.split('execution =')[0]}\n{FINISH}")
    assert viewer.wait_for_close() == 1000
    assert [each for each in viewer.types if each != "heartbeat"] == [
        "initial_snapshot",
        "activity_patch",
        "activity_patch",
        "final_snapshot",
    ]


@pytest.mark.django_db(transaction=True)
def test_without_streaming_rest_works_and_nothing_is_published(
    tmp_path: Path, valkey: ValkeyServer
) -> None:
    project = OwnProject(tmp_path, valkey.url)
    settings = tmp_path / "ownproject" / "settings.py"
    settings.write_text(settings.read_text().replace('"streaming",', ""))
    urls = tmp_path / "ownproject" / "urls.py"
    urls.write_text(re.sub(r".*streaming\.urls.*\n", "", urls.read_text()))
    project.run("-m", "django", "migrate", "--verbosity", "0")
    shown = project.run_code(
        f"{WRITING}\n{LOGIN}\n"
        "print(client.get('/api/v1/executions/order-1042', SERVER_NAME='127.0.0.1').content)"
    )
    assert '"status":"running"' in shown
    assert valkey.client.dbsize() == 0
