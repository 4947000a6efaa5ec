"""A peer: django-eventstream as its documentation sets it up, with Redis and stored events.

The ASGI application serves `/events/{channel}/`. Importing this module sets Django up.
"""

from urllib.parse import urlsplit

import django
from django.conf import settings

from nexus_project.settings import DATABASES, SECRET_KEY, VALKEY_URL

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES=DATABASES,
    EVENTSTREAM_REDIS={
        "unix_socket_path": urlsplit(VALKEY_URL).path,
        # By default redis-py ends its subscription, and so all streams, after 5 s of silence.
        "socket_timeout": None,
    },
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    INSTALLED_APPS=["django_eventstream"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=SECRET_KEY,
    USE_TZ=True,
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import send_event  # noqa: E402

urlpatterns = [path("events/<channel>/", include("django_eventstream.urls"))]
application = get_asgi_application()


def publish(channel: str, text: str) -> None:
    """Store the text, which is JSON already, and send it to the channel's viewers."""
    send_event(channel, "message", text, json_encode=False)
