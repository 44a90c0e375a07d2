"""Middleware for every request: request ids, paths, compression, and clear errors."""

import logging
import re
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from graphs.api.problem_details import refusal
from runs.core import db_errors

log = logging.getLogger(__name__)
GetResponse = Callable[[HttpRequest], HttpResponse]

PERMISSIONS_POLICY = "camera=(), display-capture=(), geolocation=(), microphone=(), usb=()"
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
# The API below /admin/, beside the pages of the admin.
ADMIN_API = re.compile(
    r"""/admin/(
        runs/.+
        |run-manager/(
            runs|runs/bulk-delete|usernames|workspaces|(bulk-operations|saved-views)(/.*)?
        )
    )/?$""",
    re.VERBOSE,
)
COMPRESSED_TYPES = ("text/html", "image/svg+xml")


def is_api(path: str) -> bool:
    """Whether a path belongs to the REST API, which answers in JSON, errors included."""
    for prefix in API_PREFIXES:
        if path == prefix or path.startswith(f"{prefix}/"):
            return True
    return ADMIN_API.match(path) is not None


def routed_path(path: str) -> str:
    """The path that the URL map knows: API paths end without a slash there."""
    if path.startswith("//"):  # the client's base URL ends with a slash
        path = f"/{path.lstrip('/')}"
    if path.endswith("/") and is_api(path):
        path = path.rstrip("/")
    return path


class RequestId:
    """Gives each request an id, so that a client and the logs can refer to it.

    A UUID in one of the headers is returned as it is; without one, a new id is made. The second
    header is the one of Exosphere's SDK.
    """

    headers = ("X-Request-Id", "X-Exosphere-Request-Id")

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = self._sent_id(request) or str(uuid.uuid4())
        request.id = request_id  # type: ignore[attr-defined]
        response = self.get_response(request)
        for header in self.headers:
            response[header] = request_id
        return response

    def _sent_id(self, request: HttpRequest) -> str | None:
        for header in self.headers:
            request_id = _valid_uuid(request.headers.get(header, ""))
            if request_id:
                return request_id
        return None


def _valid_uuid(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None


class CompressedPages(GZipMiddleware):
    """Compresses pages and pictures. The page of a large graph shrinks to a tenth.

    Files and API responses are sent uncompressed.
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        content_type = response.get("Content-Type", "")
        if response.streaming or not content_type.startswith(COMPRESSED_TYPES):
            return response
        return super().process_response(request, response)


class BothSlashForms:
    """Makes API paths work with and without a slash at the end.

    There is no redirect, because clients repeat a redirected POST as a GET.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.path_info = routed_path(request.path_info)
        return self.get_response(request)


class PrivateResponses:
    """Keeps pages and answers out of caches, and devices out of the reach of pages.

    Responses that say for themselves how they are cached, such as static files and those with an
    ETag, keep what they say.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        return response


class DatabaseAway:
    """Answers 503 with Retry-After while the database is away, or held up by other requests.

    A statement that is itself at fault is an error of the server (500).
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not db_errors.passes(error):
            return None
        log.error("answered 503: %s", error)
        db_errors.drop_connection(error)
        if db_errors.is_away(error):
            message = "The database can't be used at the moment. Try again shortly."
            return refusal(request, 503, message, {"Retry-After": "5"})
        message = "Other requests hold what this one needs. Try again shortly."
        return refusal(request, 503, message, {"Retry-After": "1"})
