"""The OpenAPI document and its page. They hold no data, so they are open to everyone."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import AllowAny
from rest_framework.views import APIView

from executions.api.errors import answer_exception
from executions.api.openapi import DocumentGenerator


class _OpenToAll(APIView):
    authentication_classes: Sequence[type[BaseAuthentication]] = ()
    permission_classes = (AllowAny,)
    http_method_names: ClassVar[list[str]] = ["get", "head"]  # type: ignore[misc]

    def get_exception_handler(self) -> Callable[..., Any]:
        return answer_exception


class SchemaView(_OpenToAll, SpectacularAPIView):
    """The OpenAPI document, as YAML or, where the client asks for it, as JSON."""

    generator_class = DocumentGenerator


class DocsView(_OpenToAll, SpectacularSwaggerView):
    """Swagger UI over the OpenAPI document, from files of our own."""

    url_name = "schema"
