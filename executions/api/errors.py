"""What a client is told when something is wrong: always JSON, never a trace.

A body is `{"detail": "…"}`; where query parameters are at fault it also has
`"parameters": {"<name>": ["…"]}`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.core.exceptions import SuspiciousOperation
from django.core.signals import got_request_exception
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.log import log_response
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException
from rest_framework.views import exception_handler

from executions.identifiers import EXECUTION_ID_FORM

API_PREFIX: Final = "/api/"

NOTHING_HERE: Final = "There is nothing at this path; /api/v1/docs describes what there is."
BAD_REQUEST: Final = "The request could not be understood."
SERVER_ERROR: Final = "Something went wrong here; the server's log says what."


class BadParametersError(APIException):
    """Query parameters are at fault; each problem says what would be accepted."""

    status_code = 400

    def __init__(self, problems: Mapping[str, Sequence[str]]) -> None:
        self.problems = {
            name: [str(told) for told in several] for name, several in problems.items()
        }
        super().__init__(
            "; ".join(
                f"{name} {told}" for name, several in self.problems.items() for told in several
            )
        )


class BadBodyError(APIException):
    """The request's body is at fault; the message says what is accepted."""

    status_code = 400


class MalformedExecutionIdError(APIException):
    """The path holds what cannot be the id of an execution."""

    status_code = 400

    def __init__(self, text: str) -> None:
        super().__init__(
            f"{text[:80]!r} is not an execution id: it has the form {EXECUTION_ID_FORM}"
        )


def error_answer(
    status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> JsonResponse:
    return JsonResponse({"detail": detail, **more}, status=status, headers=headers)


def answer_exception(exception: Exception, context: Mapping[str, Any]) -> HttpResponse:
    """The answer to anything that a view raised: DRF's EXCEPTION_HANDLER for our views."""
    if isinstance(exception, BadParametersError):
        return error_answer(400, str(exception.detail), parameters=exception.problems)
    if isinstance(exception, SuspiciousOperation):
        return error_answer(400, BAD_REQUEST)
    known = exception_handler(exception, dict(context))
    if known is not None:
        headers = {name: value for name, value in known.items() if name != "Content-Type"}
        return error_answer(known.status_code, _detail_of(known.data), headers=headers)
    request = context["request"]._request
    answer = error_answer(500, SERVER_ERROR)
    got_request_exception.send(sender=None, request=request)
    log_response(
        "Internal Server Error: %s",
        request.path,
        response=answer,
        request=request,
        exception=exception,
    )
    return answer


def _detail_of(data: Any) -> str:
    return str(data["detail"]) if isinstance(data, dict) and "detail" in data else BAD_REQUEST


# Django's own error views, for what happens outside of a REST view


@csrf_exempt
def unknown_path(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
    return error_answer(404, NOTHING_HERE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_api(request):
        return error_answer(400, BAD_REQUEST)
    return defaults.bad_request(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_api(request):
        return error_answer(404, NOTHING_HERE)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_for_api(request):
        return error_answer(500, SERVER_ERROR)
    return defaults.server_error(request)


def _is_for_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(API_PREFIX)
