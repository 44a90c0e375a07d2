"""Nodes that talk to the outside: HTTP request and mail.

HTTP goes to public addresses only, unless ALLOW_PRIVATE_ADDRESSES is set: the name is resolved once, the address is judged, and the
connection is made to that very address, for each redirect again, so a name that changes its mind gains nothing.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import time
from contextlib import closing
from typing import Annotated, Any, Literal
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.nodes.base import Context, NodeFailed, RunAgain, node

MAX_BODY = 1 * 2**20
MAX_REDIRECTS = 5
Condition = Annotated[
    str,
    Field(
        description="A CEL expression over `status`, `headers` and `body`",
        json_schema_extra={"format": "cel"},
        max_length=expressions.MAX_LENGTH,
    ),
]


class HttpOutput(TypedDict):
    status: int
    headers: dict[str, str]
    body: Any


class MailOutput(TypedDict):
    sent: int


def public_address(host: str, port: int) -> str:
    """The first address of the host, if all of them are public. Raises NodeFailed."""
    try:
        found = [
            str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ]
    except (OSError, UnicodeError) as error:
        raise NodeFailed(f"the host {host!r} can't be resolved: {error}") from None
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
        if not settings.ALLOW_PRIVATE_ADDRESSES and not (
            (mapped or address).is_global and not address.is_multicast
        ):
            raise NodeFailed(
                f"{host!r} is at {text}, a private address; such addresses are blocked (ALLOW_PRIVATE_ADDRESSES)"
            )
    return found[0]


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was judged before; the name is still used for Host and for the certificate."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address, self._secure = address, secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host
            )


def _exchange(
    method: str, url: str, headers: dict[str, str], body: bytes | None, timeout: float
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise NodeFailed(f"{url!r} is no http or https URL without credentials")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = public_address(parts.hostname, port)
    with closing(
        _Pinned(parts.hostname, port, address, parts.scheme == "https", timeout)
    ) as connection:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_BODY + 1)
        if len(content) > MAX_BODY:
            raise NodeFailed(f"the answer has more than {MAX_BODY:,} bytes")
        return (
            response.status,
            {key.lower(): value for key, value in response.getheaders()},
            content,
        )


@node("http.request", waits=True)
def http_request(
    ctx: Context,
    url: str,
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET",
    headers: dict[str, str] = {},  # noqa: B006  (pydantic copies it)
    body: Any = None,
    timeout: Annotated[float, Field(gt=0, le=300)] = 30,
    fail_on_error: bool = True,
    until: Condition = "",
    every: Annotated[float, Field(ge=1, le=86400)] = 10,
    patience: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600,
) -> HttpOutput:
    """Make a request; a JSON answer comes as a value, any other as text. The Idempotency-Key header is the same for all attempts.

    With `until`, such as `body.status == "done"`, it asks again every so many seconds until that holds, and fails when patience (seconds) is over.
    """
    began = ctx.once("began", None, time.time) if until else 0.0
    answer = _request(ctx, url, method, headers, body, timeout, fail_on_error)
    if until and not _holds(until, answer):
        if time.time() - began > patience:
            raise NodeFailed(f"{until!r} did not become true within {patience:g} s")
        raise RunAgain(every)
    return answer


def _holds(until: str, answer: HttpOutput) -> bool:
    try:
        return expressions.compiled(until).is_true(
            status=answer["status"], headers=answer["headers"], body=answer["body"]
        )
    except (expressions.BadExpression, expressions.EvaluationFailed) as error:
        raise NodeFailed(f"until: {error}") from None


def _request(
    ctx: Context,
    url: str,
    method: str,
    headers: dict[str, str],
    body: Any,
    timeout: float,
    fail_on_error: bool,
) -> HttpOutput:
    content = (
        None
        if body is None
        else (body.encode() if isinstance(body, str) else json.dumps(body).encode())
    )
    sent = {
        "User-Agent": "StateManager",
        "Accept": "application/json, */*",
        "Idempotency-Key": ctx.idempotency_key.encode("ascii", "replace").decode(),
    }
    sent |= {} if body is None or isinstance(body, str) else {"Content-Type": "application/json"}
    sent |= headers
    try:
        for _ in range(MAX_REDIRECTS + 1):
            status, answered, data = _exchange(method, url, sent, content, timeout)
            if status not in (301, 302, 303, 307, 308) or "location" not in answered:
                break
            url = urljoin(url, answered["location"])
            if status in (301, 302, 303) and method != "HEAD":
                method, content = "GET", None
        else:
            raise NodeFailed(f"more than {MAX_REDIRECTS} redirects")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NodeFailed(f"{method} {url} failed: {type(error).__name__}: {error}") from None
    ctx.log(f"{method} {url}: {status}")
    if fail_on_error and status >= 400:
        raise NodeFailed(
            f"{method} {url} answered {status}: {data[:200].decode('utf-8', 'replace')}"
        )
    return HttpOutput(status=status, headers=answered, body=_body(answered, data))


def _body(headers: dict[str, str], data: bytes) -> Any:
    text = data.decode("utf-8", "replace").replace("\x00", "")
    if "json" in headers.get("content-type", "") and text:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NodeFailed(f"the answer says that it is JSON, but isn't: {error}") from None
    return text


@node("mail.send", waits=True, side_effects=True)
def send_mail(ctx: Context, to: list[str], subject: str, body: str) -> MailOutput:
    """Send a mail through Django's mail settings, once per state."""

    def send() -> int:
        return EmailMessage(subject.replace("\n", " ").replace("\r", " "), body, to=to).send()

    return MailOutput(sent=ctx.once("mail", {"to": to, "subject": subject, "body": body}, send))
