"""The body of every refusal: the members of RFC 9457, always with `detail`."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, JsonResponse

from graphs.definition.types import Json, JsonObject

PROBLEM = "application/problem+json"


def problem(status: int, detail: Json, **extra: Json) -> JsonObject:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **extra,
    }


def refusal(
    request: HttpRequest,
    status: int,
    detail: str,
    headers: dict[str, str] | None = None,
    **extra: Json,
) -> HttpResponse:
    """A refusal from outside the views, in the form of the API that the path belongs to."""
    if request.path_info.startswith("/v0"):
        return JsonResponse({"detail": detail, **extra}, status=status, headers=headers)
    return JsonResponse(
        problem(status, detail, **extra), status=status, headers=headers, content_type=PROBLEM
    )
