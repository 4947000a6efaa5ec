"""What all REST views share: who is let in, the form of answers, and what descriptions repeat."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import NotFound, UnsupportedMediaType
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from executions import access
from executions.api.authentication import TokenAuthentication
from executions.api.errors import BadBodyError, MalformedExecutionIdError, answer_exception
from executions.api.parameters import check_parameters
from executions.api.serializers import ErrorSerializer
from executions.identifiers import EXECUTION_ID_FORM, is_execution_id

BodyT = TypeVar("BodyT")

EVENT_ID_HEADER: Final = "Nexus-Event-Id"


class DocumentRenderer(JSONRenderer):
    """Writes JSON as events are written, so that equal documents are equal bytes."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return msgspec.json.encode(data)


class AlwaysJson(BaseContentNegotiation):
    """Answers in JSON whatever the client would rather have: there is nothing else."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        return next(iter(parsers))

    def select_renderer(
        self,
        request: Request,
        renderers: Iterable[BaseRenderer],
        format_suffix: str | None = None,
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class MayView(BasePermission):
    """Those who may not view are told the same as of what does not exist; strangers to log in.

    What names no execution is for everyone who is logged in: it shows what they may view.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        execution_id = view.kwargs.get("execution_id")
        if access.may_view(request.user, execution_id):
            return True
        if request.user.is_authenticated and execution_id is not None:
            raise no_execution(execution_id)
        return request.user.is_authenticated


class ExecutionsApiView(APIView):
    """What all views share: for those who may, with checked parameters; reading unless said."""

    # The first one's challenge makes a request without credentials 401 rather than 403.
    authentication_classes: Sequence[type[BaseAuthentication]] = (
        TokenAuthentication,
        SessionAuthentication,
    )
    permission_classes: Sequence[type[BasePermission]] = (MayView,)
    renderer_classes = (DocumentRenderer,)
    content_negotiation_class = AlwaysJson
    http_method_names: ClassVar[list[str]] = ["get", "head"]  # type: ignore[misc]
    once: ClassVar[Sequence[str]] = ()
    repeatable: ClassVar[Sequence[str]] = ()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        check_parameters(request.query_params, once=self.once, repeatable=self.repeatable)
        execution_id = self.kwargs.get("execution_id")
        if execution_id is not None and not is_execution_id(execution_id):
            raise MalformedExecutionIdError(execution_id)

    def get_exception_handler(self) -> Callable[..., Any]:
        return answer_exception

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {**super().default_response_headers, "Cache-Control": "no-store"}


def decoded_body(request: Request, form: type[BodyT], accepted: str) -> BodyT:
    """The request's JSON body, an empty one being `{}`.

    Raises BadBodyError, which says that the body must be what is `accepted`, and
    UnsupportedMediaType.
    """
    media_type = request.content_type.partition(";")[0].strip().lower()
    # Not by DRF: it takes a body that a form's CSRF check has read for none.
    if media_type not in ("", "application/json"):
        raise UnsupportedMediaType(media_type[:80])
    try:
        return msgspec.json.decode(request._request.body or b"{}", type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBodyError(f"The body must be {accepted}: {str(error)[:200]}") from None


def no_execution(execution_id: str) -> NotFound:
    return NotFound(f"There is no execution {execution_id[:80]!r}.")


# For the OpenAPI document

ERRORS: Final = {
    401: OpenApiResponse(ErrorSerializer, "Log in first."),
    404: OpenApiResponse(ErrorSerializer, "There is no such thing for you."),
    500: OpenApiResponse(ErrorSerializer, "The fault is on this side."),
}
MALFORMED: Final = OpenApiResponse(ErrorSerializer, "The id or a parameter is malformed.")

EXECUTION_ID: Final = OpenApiParameter(
    "execution_id",
    {"type": "string", "pattern": f"^{EXECUTION_ID_FORM}$"},
    OpenApiParameter.PATH,
)


def event_id_header(description: str) -> OpenApiParameter:
    """The header of a 200 that names the event_id its body is true at."""
    return OpenApiParameter(
        EVENT_ID_HEADER,
        {"type": "string", "pattern": "^[0-9]+-[0-9]+$"},
        OpenApiParameter.HEADER,
        required=True,
        response=[200],
        description=description,
    )
