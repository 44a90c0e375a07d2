"""What every request passes: an id to find it by, and a clear answer when the database is away."""

import logging
import re
import uuid
from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.middleware.gzip import GZipMiddleware

from graphs.api.errors import refusal

log = logging.getLogger(__name__)
GetResponse = Callable[[HttpRequest], HttpResponse]


def _valid_uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


class RequestId:
    """Echoes a UUID sent as X-Request-Id (or the SDK's own header), else makes one."""

    headers = ("X-Request-Id", "X-Exosphere-Request-Id")

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = next(
            (
                found
                for name in self.headers
                if (found := _valid_uuid(request.headers.get(name, "")))
            ),
            None,
        )
        request.id = given or str(uuid.uuid4())  # type: ignore[attr-defined]
        response = self.get_response(request)
        for name in self.headers:
            response[name] = request.id  # type: ignore[attr-defined]
        return response


API_PREFIXES = (
    "/graphs",
    "/runs",
    "/templates",
    "/datasets",
    "/schema",
    "/healthz",
    "/readyz",
    "/health",
    "/v0",
    "/start",
    "/rerun",
    "/approve",
    "/token",
)
ADMIN_API = re.compile(
    r"/admin/(runs/[^/]+/(metadata|logs)|run-manager/(runs|runs/bulk-delete|usernames|workspaces|(bulk-operations|saved-views)(/.*)?))/?$"
)


def is_api(path: str) -> bool:
    """Whether a path belongs to the REST API, whose answers are always JSON."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in API_PREFIXES) or bool(
        ADMIN_API.match(path)
    )


class CompressedPages(GZipMiddleware):
    """Pages and pictures are sent compressed: that of a large graph is a tenth of its size. Files and API answers are sent as they are."""

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        plain = response.streaming or not response.get("Content-Type", "").startswith(
            ("text/html", "image/svg+xml")
        )
        return response if plain else super().process_response(request, response)


class BothSlashForms:
    """API paths mean the same with and without a slash at the end; no redirect, which would turn a POST into a GET."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info.startswith("//"):  # a client's base address ended in a slash
            request.path_info = f"/{request.path_info.lstrip('/')}"
        if request.path_info.endswith("/") and is_api(request.path_info):
            request.path_info = request.path_info.rstrip("/")
        return self.get_response(request)


class LengthRequired:
    """Refuses bodies of unknown length (Transfer-Encoding: chunked): WSGI would read them as empty and the request would act without them."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if "chunked" in request.headers.get("Transfer-Encoding", "") and not request.headers.get(
            "Content-Length"
        ):
            return refusal(
                request,
                411,
                "Send the body with a Content-Length; chunked bodies are not taken.",
                {"Connection": "close"},
            )
        return self.get_response(request)


class DatabaseAway:
    """Answers 503 with Retry-After when the database can't be reached, is locked or was restarted."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, OperationalError | InterfaceError):
            return None
        log.error("database away: %s", error)
        return refusal(
            request, 503, "The database can't be reached. Try again shortly.", {"Retry-After": "5"}
        )
