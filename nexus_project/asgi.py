"""The ASGI application: Django for HTTP, the discovered channels for WebSockets."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "nexus_project.settings")
http_application = get_asgi_application()

# These need Django's apps, which the line above has loaded.
from nexus_project.health import Probes  # noqa: E402
from streaming.access.callers import Callers  # noqa: E402
from streaming.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": Probes(http_application),
        "websocket": Callers(URLRouter(websocket_urlpatterns())),
    }
)
