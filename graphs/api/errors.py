"""The one error handler: every refusal has the same form, RFC 9457's with a `detail`."""

from collections.abc import Iterator
from typing import TypedDict

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import APIView

from graphs.api.parsers import NotJsonBody
from graphs.api.problem_details import PROBLEM, problem, refusal
from graphs.definition.errors import StateManagerError
from graphs.definition.types import Json, JsonObject

Place = list[str | int]


class Context(TypedDict, total=False):
    """What DRF tells its exception handler about the request, as far as it is used here."""

    view: APIView


def handle(error: Exception, context: Context) -> Response | None:
    """DRF's exception handler.

    Unexpected errors are left to Django, which answers 500. If the database can't be reached, the
    middleware answers 503.
    """
    body = _problem(error)
    if body is None:
        return None
    headers = _headers(error)
    if getattr(context.get("view"), "plain_errors", False):
        return Response(_plain(error, body), body["status"], headers=headers)
    return Response(body, body["status"], headers=headers, content_type=PROBLEM)


def _problem(error: Exception) -> JsonObject | None:
    if isinstance(error, StateManagerError):
        return problem(error.status, error.detail, **error.extra)
    if isinstance(error, exceptions.ValidationError):
        return problem(422, list(_fields(error.detail, ["body"])))
    if isinstance(error, exceptions.ParseError):
        return problem(422, str(error.detail))
    if isinstance(error, RequestDataTooBig):
        return problem(413, "The body is too large.")
    if isinstance(error, exceptions.APIException):
        return problem(error.status_code, _sentence(error))
    if isinstance(error, ObjectDoesNotExist):  # it existed when this request began
        return problem(404, "It has just been deleted.")
    if isinstance(error, Http404):
        return problem(404, str(error) or "Not found.")
    if isinstance(error, PermissionDenied):
        return problem(403, str(error) or "Not found.")
    return None


def _sentence(error: exceptions.APIException) -> str:
    """The detail as a text; the errors of tokens are objects with a member for it."""
    detail = error.detail
    return str(detail.get("detail", "") if isinstance(detail, dict) else detail)


def _plain(error: Exception, body: JsonObject) -> JsonObject:
    """`/v0` answers `{"detail": ...}` and only adds what an error of ours adds."""
    if isinstance(error, StateManagerError):
        return {"detail": body["detail"], **error.extra}
    if isinstance(error, exceptions.ParseError):
        return {"detail": [_invalid_json(error)]}
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return {"detail": "Invalid API key"}
    if isinstance(error, exceptions.MethodNotAllowed):
        return {"detail": "Method Not Allowed"}
    return {"detail": body["detail"]}


def _invalid_json(error: exceptions.ParseError) -> JsonObject:
    """A body that isn't JSON, in the form of pydantic's errors."""
    offset, reason = 0, str(error.detail)
    if isinstance(error, NotJsonBody):
        offset, reason = error.offset, error.reason
    return {
        "type": "json_invalid",
        "loc": ["body", offset],
        "msg": "JSON decode error",
        "input": {},
        "ctx": {"error": reason},
    }


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, StateManagerError):
        return dict(error.headers)
    headers = {}
    authenticate = getattr(error, "auth_header", None)
    if authenticate:
        headers["WWW-Authenticate"] = authenticate
    wait_seconds = getattr(error, "wait", None)
    if wait_seconds:
        headers["Retry-After"] = str(int(wait_seconds) + 1)
    return headers


def _fields(detail: Json, place: Place) -> Iterator[JsonObject]:
    """DRF's nested errors as a flat list of {loc, msg, type}."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _fields(value, place if key == "non_field_errors" else [*place, key])
    elif isinstance(detail, list):
        for index, value in enumerate(detail):
            is_nested = isinstance(value, dict | list)
            yield from _fields(value, [*place, index] if is_nested else place)
    else:
        yield {"loc": place, "msg": str(detail), "type": getattr(detail, "code", "invalid")}


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404 for unknown paths."""
    return refusal(request, 404, "Not Found")


@csrf_exempt
def unknown_path(request: HttpRequest, rest: str) -> HttpResponse:
    """404 for paths of the API below a page that would answer all others."""
    return not_found(request)


def server_error(request: HttpRequest) -> HttpResponse:
    """500; the request's id finds the traceback in the log."""
    detail = "An unexpected error occurred. The log has the details under this request id."
    request_id = getattr(request, "id", None)
    return refusal(request, 500, detail, success=False, request_id=request_id)
