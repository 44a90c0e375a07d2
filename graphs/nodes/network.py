"""Nodes that talk to other services: http.request and mail.send.

HTTP requests reach public addresses only, unless ALLOW_PRIVATE_ADDRESSES is set. The host name is
resolved once, every address is checked, and the connection is made to the address that was checked.
A name that resolves to something else a moment later therefore gains nothing. Redirects go through
the same steps.
"""

import http.client
import ipaddress
import json
import socket
import ssl
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urljoin, urlsplit

from django.conf import settings
from django.core.mail import EmailMessage
from pydantic import Field
from typing_extensions import TypedDict

from graphs.definition import expressions
from graphs.definition.types import Json
from graphs.nodes.base import Context, NodeFailed, RunAgain, node

MAX_BODY = 2**20  # bytes
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_TO_GET = (301, 302, 303)
Condition = Annotated[
    str,
    Field(
        description="A CEL expression over `status`, `headers` and `body`.",
        json_schema_extra={"format": "cel"},
        max_length=expressions.MAX_LENGTH,
    ),
]


class HttpOutput(TypedDict):
    status: int
    headers: dict[str, str]
    body: Json


class MailOutput(TypedDict):
    sent: int


@dataclass(frozen=True)
class Response:
    """A response as it arrived, and the request that it answers. Header names are in lower case."""

    method: str
    url: str
    status: int
    headers: dict[str, str]
    content: bytes


def public_address(host: str, port: int) -> str:
    """The first IP address of a host.

    Raises NodeFailed if the name can't be resolved, or if any of its addresses is private.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NodeFailed(f"the host {host!r} can't be resolved: {error}") from None
    addresses = [str(info[4][0]) for info in infos]
    if not settings.ALLOW_PRIVATE_ADDRESSES:
        for address in addresses:
            if not _is_public(address):
                raise NodeFailed(
                    f"{host!r} has the private address {address}; requests to private addresses "
                    "are allowed only if ALLOW_PRIVATE_ADDRESSES is set"
                )
    return addresses[0]


def _is_public(text: str) -> bool:
    """Whether an address is public. An IPv4 address inside an IPv6 address is judged as IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    embedded = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return (embedded or address).is_global and not address.is_multicast


class _PinnedConnection(http.client.HTTPConnection):
    """A connection to a checked address. The Host header and the certificate use the host name."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._address = address
        self._secure = secure

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host
            )


def _exchange(
    method: str, url: str, headers: dict[str, str], body: bytes | None, timeout: float
) -> Response:
    """One request and its response, without following redirects."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise NodeFailed(f"{url!r} is not an http or https URL without a user name")
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    address = public_address(parts.hostname, port)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    with closing(_PinnedConnection(parts.hostname, port, address, secure, timeout)) as connection:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = response.read(MAX_BODY + 1)
        if len(content) > MAX_BODY:
            raise NodeFailed(f"the response has more than {MAX_BODY:,} bytes")
        names = {key.lower(): value for key, value in response.getheaders()}
        return Response(method, url, response.status, names, content)


@node("http.request", waits=True)
def http_request(
    ctx: Context,
    url: str,
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET",
    headers: dict[str, str] = {},  # noqa: B006  (pydantic copies it)
    body: Json = None,
    timeout: Annotated[float, Field(gt=0, le=300)] = 30,
    fail_on_error: bool = True,
    until: Condition = "",
    every: Annotated[float, Field(ge=1, le=86400)] = 10,
    patience: Annotated[float, Field(gt=0, le=7 * 86400)] = 3600,
) -> HttpOutput:
    """Make an HTTP request.

    A JSON response becomes a value, and any other response becomes text. The Idempotency-Key header
    is the same for all attempts. A response with status 400 or above fails the node, unless
    `fail_on_error` is false.

    With `until`, such as `body.status == "done"`, the request is repeated every `every` seconds
    until the condition is true. The node fails if that takes longer than `patience` seconds.
    """
    started = ctx.once("began", None, time.time) if until else 0.0
    output = _request(ctx, url, method, headers, body, timeout, fail_on_error)
    if until and not _is_true(until, output):
        if time.time() - started > patience:
            raise NodeFailed(f"{until!r} did not become true within {patience:g} s")
        raise RunAgain(every)

    return output


def _is_true(condition: str, output: HttpOutput) -> bool:
    try:
        return expressions.compiled(condition).is_true(
            status=output["status"], headers=output["headers"], body=output["body"]
        )
    except (expressions.BadExpression, expressions.EvaluationFailed) as error:
        raise NodeFailed(f"until: {error}") from None


def _request(
    ctx: Context,
    url: str,
    method: str,
    headers: dict[str, str],
    body: Json,
    timeout: float,
    fail_on_error: bool,
) -> HttpOutput:
    """The response of the last address that redirects lead to."""
    sent_headers = {**_default_headers(ctx, body), **headers}
    response = _follow_redirects(method, url, sent_headers, _encoded(body), timeout)
    request = f"{response.method} {response.url}"
    ctx.log(f"{request}: {response.status}")
    if fail_on_error and response.status >= 400:
        beginning = response.content[:200].decode("utf-8", "replace")
        raise NodeFailed(f"{request} answered {response.status}: {beginning}")
    return HttpOutput(status=response.status, headers=response.headers, body=_decoded(response))


def _default_headers(ctx: Context, body: Json) -> dict[str, str]:
    headers = {
        "User-Agent": "StateManager",
        "Accept": "application/json, */*",
        "Idempotency-Key": ctx.idempotency_key,
    }
    if body is not None and not isinstance(body, str):
        headers["Content-Type"] = "application/json"
    return headers


def _encoded(body: Json) -> bytes | None:
    """The bytes to send: text as it is, any other value as JSON, nothing for None."""
    if body is None:
        return None
    text = body if isinstance(body, str) else json.dumps(body)
    return text.encode()


def _follow_redirects(
    method: str, url: str, headers: dict[str, str], content: bytes | None, timeout: float
) -> Response:
    """After 301, 302 and 303 the next request is a GET without a body, as browsers do it."""
    for _ in range(MAX_REDIRECTS + 1):
        try:
            response = _exchange(method, url, headers, content, timeout)
            if response.status not in REDIRECTS or "location" not in response.headers:
                return response
            url = urljoin(url, response.headers["location"])
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NodeFailed(f"{method} {url} failed: {type(error).__name__}: {error}") from None
        if response.status in REDIRECTS_TO_GET and method != "HEAD":
            method = "GET"
            content = None
    raise NodeFailed(f"there were more than {MAX_REDIRECTS} redirects")


def _decoded(response: Response) -> Json:
    text = response.content.decode("utf-8", "replace").replace("\x00", "")
    if "json" in response.headers.get("content-type", "") and text:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NodeFailed(
                f"the Content-Type of the response is JSON, but its body isn't: {error}"
            ) from None
    return text


@node("mail.send", waits=True, side_effects=True)
def send_mail(ctx: Context, to: list[str], subject: str, body: str) -> MailOutput:
    """Send an email with the mail settings of Django.

    The email is sent once, even if the state runs again.
    """

    def send() -> int:
        one_line_subject = subject.replace("\n", " ").replace("\r", " ")
        return EmailMessage(one_line_subject, body, to=to).send()

    args = {"to": to, "subject": subject, "body": body}
    return MailOutput(sent=ctx.once("mail", args, send))
