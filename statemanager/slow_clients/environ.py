"""The WSGI environment of a request, made from the ASGI scope."""

import io
import sys
from urllib.parse import unquote_to_bytes

from asgiref.typing import HTTPScope

Environ = dict[str, object]

_NAMES = {b"content-length": "CONTENT_LENGTH", b"content-type": "CONTENT_TYPE"}
_SEPARATORS = {"HTTP_COOKIE": ";"}
_CONSTANTS: Environ = {
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.input_terminated": True,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def build(scope: HTTPScope) -> Environ:
    """The environment with an empty body.

    It is the one that granian makes for WSGI applications. `asgiref.wsgi` makes another one: it
    joins cookies by commas, and it takes the path as text, in which bytes that are not UTF-8 are
    already lost.

    Headers with an underscore are left out. `X_Forwarded_For` would become the same variable as
    `X-Forwarded-For`, so a client could write what only the proxy may say.
    """
    environ = {
        **_CONSTANTS,
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REQUEST_METHOD": scope["method"],
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "wsgi.url_scheme": scope.get("scheme") or "http",
        "wsgi.input": io.BytesIO(),
    }
    _add_path(environ, scope)
    _add_addresses(environ, scope)
    for name, value in scope["headers"]:
        if b"_" not in name:
            _add_header(environ, name, value.decode("latin-1"))
    return environ


def _add_path(environ: Environ, scope: HTTPScope) -> None:
    root = scope.get("root_path") or ""
    raw_path = scope.get("raw_path") or scope["path"].encode()
    path = unquote_to_bytes(raw_path).decode("latin-1")
    environ["SCRIPT_NAME"] = root
    environ["PATH_INFO"] = (path.removeprefix(root) or "/") if root else path


def _add_addresses(environ: Environ, scope: HTTPScope) -> None:
    host, port = scope.get("server") or ("localhost", 80)
    environ["SERVER_NAME"] = host
    environ["SERVER_PORT"] = str(port or 80)
    client = scope.get("client")
    if client:
        environ["REMOTE_ADDR"] = client[0]


def _add_header(environ: Environ, name: bytes, value: str) -> None:
    key = _NAMES.get(name) or f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}"
    if key in environ:
        value = f"{environ[key]}{_SEPARATORS.get(key, ',')}{value}"
    environ[key] = value
