"""The one error handler: every refusal becomes the same shape, RFC 9457's members with `detail` always present."""

from typing import Any

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from graphs.api.problem_details import PROBLEM, problem
from graphs.definition.errors import StateManagerError


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. Errors that nobody foresaw are left to Django (500), a database that is away to the middleware (503)."""
    headers: dict[str, str] = {}
    if isinstance(error, StateManagerError):
        body = problem(error.status, error.detail, **error.extra)
        headers = dict(error.headers)
    elif isinstance(error, exceptions.ValidationError):
        body = problem(422, list(_fields(error.detail, ["body"])))
    elif isinstance(error, exceptions.ParseError):
        body = problem(422, str(error.detail))
    elif isinstance(error, RequestDataTooBig):
        body = problem(413, "The body is too large.")
    elif isinstance(error, exceptions.APIException):
        body = problem(error.status_code, str(error.detail))
        headers = _headers(error)
    elif isinstance(error, ObjectDoesNotExist):  # it was there when this request began
        body = problem(404, "It was deleted at this moment.")
    elif isinstance(error, Http404 | PermissionDenied):
        body = problem(404 if isinstance(error, Http404) else 403, str(error) or "Not found.")
    else:
        return None
    if getattr(context.get("view"), "plain_errors", False):
        return Response(_plain(error, body), body["status"], headers=headers)
    return Response(body, body["status"], headers=headers, content_type=PROBLEM)


def _plain(error: Exception, body: dict[str, Any]) -> dict[str, Any]:
    """`/v0` answers `{"detail": …}` and no more than that but what an error of ours adds (contract section A.1)."""
    if isinstance(error, StateManagerError):
        return {"detail": body["detail"], **error.extra}
    if isinstance(error, exceptions.ParseError):
        offset, reason = getattr(error, "offset", 0), getattr(error, "reason", str(error.detail))
        return {
            "detail": [
                {
                    "type": "json_invalid",
                    "loc": ["body", offset],
                    "msg": "JSON decode error",
                    "input": {},
                    "ctx": {"error": reason},
                }
            ]
        }
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return {"detail": "Invalid API key"}
    if isinstance(error, exceptions.MethodNotAllowed):
        return {"detail": "Method Not Allowed"}
    return {"detail": body["detail"]}


def _headers(error: exceptions.APIException) -> dict[str, str]:
    headers = (
        {"WWW-Authenticate": header} if (header := getattr(error, "auth_header", None)) else {}
    )
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(int(wait) + 1)
    return headers


def _fields(detail: Any, place: list[str | int]) -> Any:
    """DRF's nested errors as a flat list of {loc, msg, type}."""
    if isinstance(detail, dict):
        for key, value in detail.items():
            yield from _fields(value, place if key == "non_field_errors" else [*place, key])
    elif isinstance(detail, list):
        for at, value in enumerate(detail):
            yield from _fields(value, [*place, at] if isinstance(value, dict | list) else place)
    else:
        yield {"loc": place, "msg": str(detail), "type": getattr(detail, "code", "invalid")}


def refusal(
    request: HttpRequest,
    status: int,
    detail: str,
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> HttpResponse:
    """A refusal from outside the views, in the form of the path's API."""
    if request.path.startswith("/v0"):
        return JsonResponse({"detail": detail, **extra}, status=status, headers=headers)
    return JsonResponse(
        problem(status, detail, **extra), status=status, headers=headers, content_type=PROBLEM
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404 for paths that lead nowhere."""
    return refusal(request, 404, "Not Found")


def server_error(request: HttpRequest) -> HttpResponse:
    """500; the request's id finds the trace in the log."""
    said = "An unexpected error. The log has more under this request id."
    return refusal(request, 500, said, success=False, request_id=getattr(request, "id", None))
