"""HTTP requests to addresses that may be reached, made by urllib3.

Requests reach public addresses only, unless ALLOW_PRIVATE_ADDRESSES is set. The name of the host is
resolved once, every address is checked, and the connection is made to an address that was checked.
A name that resolves to something else a moment later therefore gains nothing. Redirects go through
the same steps.

The timeout is a deadline for all of it: connecting, sending, redirects and the last byte.
"""

import ipaddress
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from threading import Timer
from time import monotonic
from typing import Any
from urllib.parse import urljoin

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url, parse_url

from graphs.definition.types import Json
from graphs.nodes.base import NodeFailed
from graphs.services import encodings
from statemanager.conf import conf

MAX_BODY = 2**20  # bytes, unpacked
MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_TO_GET = (301, 302, 303)
# What another origin may know. Every other header may be a credential.
HARMLESS = {"accept", "accept-language", "content-type", "idempotency-key", "user-agent"}

# Prefixes of IPv6 addresses that lead to the IPv4 address in their last 32 bits: NAT64 (RFC 6052),
# IPv4-compatible (RFC 4291) and IPv4-translated addresses (RFC 2765).
_WITH_IPV4 = [
    ipaddress.IPv6Network(prefix) for prefix in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")
]
# Site-local addresses (RFC 3879), Teredo (RFC 4380) and local NAT64 prefixes (RFC 8215).
_NEVER_PUBLIC = [
    ipaddress.IPv6Network(prefix) for prefix in ("fec0::/10", "2001::/32", "64:ff9b:1::/48")
]


@dataclass(frozen=True)
class Response:
    """A response as it arrived, and the request that it answers. Header names are in lower case."""

    method: str
    url: str
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def charset(self) -> str:
        return charset_of(self.headers.get("content-type", ""))

    @property
    def is_damaged(self) -> bool:
        """Whether the body has bytes that its charset doesn't have, which the text replaces."""
        return not encodings.is_text(self.content, self.charset)

    @property
    def text(self) -> str:
        """The body in the charset that the response names, without NUL characters."""
        return encodings.as_text(self.content, self.charset).replace("\x00", "")

    def decoded(self) -> Json:
        """The value of a JSON response, or the text of any other one.

        Raises NodeFailed for a response that is not the JSON that it says it is.
        """
        text = self.text
        subtype = _media_type(self.headers.get("content-type", "")).get_content_subtype()
        if not (subtype == "json" or subtype.endswith("+json")) or not text:
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise NodeFailed(
                f"the Content-Type of the response is JSON, but its body isn't: {error}"
            ) from None


def charset_of(content_type: str) -> str:
    """The charset that a Content-Type names, else UTF-8."""
    charset: str = _media_type(content_type).get_content_charset("utf-8")
    return charset


def _media_type(content_type: str) -> Message:
    message = Message()
    message["Content-Type"] = content_type
    return message


# --- addresses -----------------------------------------------------------------------------------


def public_addresses(host: str, port: int) -> list[str]:
    """The IP addresses of a host, in the order in which they should be tried.

    Raises NodeFailed if the name can't be resolved, or if any of its addresses is private.
    """
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NodeFailed(f"the host {host!r} can't be resolved: {error}") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if not conf.ALLOW_PRIVATE_ADDRESSES:
        for address in addresses:
            if not is_public(address):
                raise NodeFailed(
                    f"{host!r} has the private address {address}; requests to private addresses "
                    "are allowed only if ALLOW_PRIVATE_ADDRESSES is set"
                )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address is public. An IPv4 address inside an IPv6 address is judged as IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if any(address in network for network in _NEVER_PUBLIC):
            return False
        embedded = address.ipv4_mapped or address.sixtofour
        if any(address in network for network in _WITH_IPV4):
            embedded = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if embedded is not None:
            return embedded.is_global and not embedded.is_multicast
    return address.is_global and not address.is_multicast


# --- requests ------------------------------------------------------------------------------------


def send(
    method: str, url: str, headers: Mapping[str, str], content: bytes | None, timeout: float
) -> Response:
    """Make a request and follow redirects. `timeout` is in seconds, for everything together.

    After 301, 302 and 303 the next request is a GET without a body, as browsers do it. Another
    origin gets only headers that are no credentials. Raises NodeFailed.
    """
    with _deadline(timeout) as deadline:
        for _ in range(MAX_REDIRECTS + 1):
            response = _exchange(method, url, headers, content, deadline)
            if response.status not in REDIRECTS or "location" not in response.headers:
                return response
            target = urljoin(url, response.headers["location"])
            if _origin(_parsed(target)) != _origin(_parsed(url)):
                headers = {key: value for key, value in headers.items() if key.lower() in HARMLESS}
            url = target
            if response.status in REDIRECTS_TO_GET and method != "HEAD":
                method = "GET"
                content = None
    raise NodeFailed(f"there were more than {MAX_REDIRECTS} redirects")


def _exchange(
    method: str, url: str, headers: Mapping[str, str], content: bytes | None, deadline: "_Deadline"
) -> Response:
    """One request and its response, without following redirects."""
    parsed = _parsed(url)
    try:
        response = _open(method, parsed, headers, content, deadline)
        try:
            body = response.read(MAX_BODY + 1)
        finally:
            response.close()
    except (OSError, urllib3.exceptions.HTTPError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        if deadline.passed:
            reason = f"it took longer than {deadline.seconds:g} s"
        raise NodeFailed(f"{method} {url} failed: {reason}") from None
    if deadline.passed:  # a response of unknown length seems to be complete when it is cut
        raise NodeFailed(f"{method} {url} failed: it took longer than {deadline.seconds:g} s")
    if len(body) > MAX_BODY:
        raise NodeFailed(f"the response has more than {MAX_BODY:,} bytes")
    # Lines of one name are one header, with commas between their values.
    names = {key.lower(): value for key, value in response.headers.itermerged()}
    return Response(method, url, response.status, names, body)


def _parsed(url: str) -> Url:
    try:
        parsed = parse_url(url)
    except urllib3.exceptions.LocationParseError:
        parsed = Url()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.auth:
        raise NodeFailed(f"{url!r} is not an http or https URL without a user name")
    return parsed


def _origin(url: Url) -> tuple[str, str, int]:
    scheme, host = str(url.scheme), str(url.host).strip("[]")
    return scheme, host, url.port or (443 if scheme == "https" else 80)


def _open(
    method: str, url: Url, headers: Mapping[str, str], content: bytes | None, deadline: "_Deadline"
) -> urllib3.BaseHTTPResponse:
    """The beginning of the response from the first of the host's addresses that can be reached."""
    scheme, host, port = _origin(url)
    sent = {"Host": url.netloc or "", "Accept-Encoding": "identity", **headers}
    unreachable: Exception = OSError(f"{host} has no address")
    for address in public_addresses(host, port):
        pool = _pool(scheme, host, address, port, deadline)
        try:
            return pool.urlopen(
                method,
                url.request_uri,
                body=content,
                headers=sent,
                retries=False,
                redirect=False,
                preload_content=False,
                timeout=deadline.left(),
            )
        except (
            urllib3.exceptions.NewConnectionError,
            urllib3.exceptions.ConnectTimeoutError,
        ) as error:
            unreachable = error
            if deadline.passed:
                break
    raise unreachable


def _pool(
    scheme: str, host: str, address: str, port: int, deadline: "_Deadline"
) -> urllib3.HTTPConnectionPool:
    """A pool for one connection to this address. Certificates are checked for the host's name."""
    if scheme == "http":
        pool = urllib3.HTTPConnectionPool(address, port, maxsize=1)
        pool.ConnectionCls = _watched(HTTPConnection, deadline)
        return pool
    secure = urllib3.HTTPSConnectionPool(
        address, port, maxsize=1, server_hostname=host, assert_hostname=host
    )
    secure.ConnectionCls = _watched(HTTPSConnection, deadline)
    return secure


# --- the deadline --------------------------------------------------------------------------------


class _Deadline:
    """Cuts the connections that it watches when the time is over.

    Socket timeouts count from one byte to the next, so a server that sends a byte now and then
    could hold a worker for hours.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._ends = monotonic() + seconds
        self._sockets: list[socket.socket] = []

    def left(self) -> float:
        """The seconds that are left, a little more than none."""
        return max(self._ends - monotonic(), 0.001)

    def watch(self, connected: socket.socket) -> None:
        self._sockets.append(connected.dup())  # TLS takes the socket itself over

    def cut(self) -> None:
        self.passed = True
        for connected in self._sockets:
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for connected in self._sockets:
            connected.close()


@contextmanager
def _deadline(seconds: float) -> Iterator[_Deadline]:
    deadline = _Deadline(seconds)
    timer = Timer(seconds, deadline.cut)
    timer.daemon = True
    timer.start()
    try:
        yield deadline
    finally:
        timer.cancel()
        deadline.close()


def _watched(connection: type[Any], deadline: _Deadline) -> type[Any]:
    """A class of connections that the deadline watches."""

    class Watched(connection):
        def _new_conn(self) -> socket.socket:
            connected: socket.socket = super()._new_conn()
            deadline.watch(connected)
            return connected

    return Watched
