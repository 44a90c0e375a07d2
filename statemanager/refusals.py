"""Requests that are refused before a view sees them, and how much a client may send.

`statemanager.slow_clients` asks for the `reason` of a refusal before it receives a body. A request
that is refused goes on to Django without a body, where `RequestLimits` answers it in the form of
all other refusals. Under another server the middleware is the first to look.
"""

from collections.abc import Callable, Mapping

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import Resolver404, resolve

from graphs.api.problem_details import refusal

# The key in the WSGI environment. Headers of clients begin with HTTP_, so they can't set it.
REASON = "statemanager.refusal"
CHUNKED, TOO_LARGE, TOO_SLOW = "chunked", "too large", "too slow"
BUSY, STREAMS, UPLOADS = "busy", "streams", "uploads"

MAX_DIGITS = 19  # of a length; a longer one is too large in any case
_CLOSE = {"Connection": "close"}
_AGAIN = {"Retry-After": "5"}
ANSWERS: Mapping[str, tuple[int, str, dict[str, str]]] = {
    CHUNKED: (
        411,
        "Bodies without a Content-Length header, such as chunked ones, are not supported.",
        _CLOSE,
    ),
    TOO_LARGE: (413, "The body is too large. At most {limit:,} bytes are accepted here.", _CLOSE),
    TOO_SLOW: (408, "The body of the request did not arrive in time.", _CLOSE),
    BUSY: (503, "The server is busy. Try again shortly.", _AGAIN),
    STREAMS: (503, "Too many exports are being downloaded. Try again shortly.", _AGAIN),
    UPLOADS: (503, "Too many files are being uploaded. Try again shortly.", _AGAIN | _CLOSE),
}


def is_upload(environ: Mapping[str, object]) -> bool:
    """Whether a view that accepts uploads answers a request, of whatever length.

    The view, or the class of a viewset, has the attribute `accepts_uploads`.
    """
    from statemanager.middleware import routed_path

    path = str(environ["PATH_INFO"]).encode("latin-1").decode(errors="replace")
    try:
        view = resolve(routed_path(path)).func
    except Resolver404:
        return False
    return bool(getattr(getattr(view, "cls", view), "accepts_uploads", False))


def length_of(environ: Mapping[str, object]) -> int:
    """The length of the body; 0 without one."""
    text = str(environ.get("CONTENT_LENGTH") or "0")
    return int(text[:MAX_DIGITS]) if text.isascii() and text.isdigit() else 0


def limit(environ: Mapping[str, object]) -> int:
    """The largest body that the path accepts, in bytes."""
    body_bytes: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    upload_bytes: int = settings.MAX_UPLOAD_BYTES
    if length_of(environ) <= body_bytes:
        return body_bytes  # without the cost of finding the view
    return upload_bytes if is_upload(environ) else body_bytes


def reason(environ: Mapping[str, object]) -> str | None:
    """Why a request is refused whatever its body is; None if it isn't."""
    if environ.get(REASON):
        return str(environ[REASON])
    is_chunked = "chunked" in str(environ.get("HTTP_TRANSFER_ENCODING", "")).lower()
    if is_chunked and not environ.get("CONTENT_LENGTH"):
        return CHUNKED
    if length_of(environ) > limit(environ):
        return TOO_LARGE
    return None


class RequestLimits:
    """Answers requests that are refused because of their body, or because the server is busy.

    WSGI doesn't know the length of a chunked body and reads it as empty, so the request would be
    carried out without its content.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        why = reason(request.META)
        if why is None:
            return self.get_response(request)
        status, message, headers = ANSWERS[why]
        return refusal(request, status, message.format(limit=limit(request.META)), headers)
