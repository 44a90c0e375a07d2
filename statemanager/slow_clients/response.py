"""What a thread does with a request: it runs the WSGI application and reads its response."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import IO, Protocol

from statemanager import refusals
from statemanager.slow_clients.client import STALL_SECONDS, Client, Gone, Headers
from statemanager.slow_clients.environ import Environ

log = logging.getLogger(__name__)

PIECE_BYTES = 2**16
WsgiApplication = Callable[[Environ, Callable[..., None]], Iterable[bytes]]


class File:
    """`wsgi.file_wrapper`: a response that is a file, which needs no thread while it is sent."""

    def __init__(self, file: IO[bytes], block_size: int = PIECE_BYTES) -> None:
        self.read = file.read
        self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(PIECE_BYTES), b"")


class _Closable(Protocol):
    def close(self) -> None: ...


@dataclass
class Response:
    """A response. `rest` is the part of a file that follows the body."""

    status: int
    headers: Headers
    body: bytes = b""
    rest: File | None = None


class Responder:
    """Makes the response of one request, in a thread."""

    def __init__(
        self, application: WsgiApplication, streams: BoundedSemaphore, client: Client
    ) -> None:
        self._application = application
        self._streams = streams
        self._client = client
        self._status = 500
        self._headers: Headers = []

    def respond(self, environ: Environ) -> Response | None:
        """The response; None if it was a stream, which has been sent by then.

        Database cursors belong to this thread, so a response that reads from one occupies the
        thread until the client has taken it. Only some of the threads may do so at a time.
        """
        chunks = self._application({**environ, "wsgi.file_wrapper": File}, self._start_response)
        response = Response(self._status, self._headers)
        pieces = _pieces(iter(chunks))
        try:
            if environ["REQUEST_METHOD"] == "HEAD":
                return response
            response.body = next(pieces, b"")
            if isinstance(chunks, File):
                if len(response.body) >= PIECE_BYTES:
                    response.rest, chunks = chunks, []
                return response
            second = next(pieces, None)
            if second is None:
                return response
            if self._streams.acquire(blocking=False):
                try:
                    self._stream(response, second, pieces)
                finally:
                    self._streams.release()
                return None
        finally:
            _close(chunks)
        return self.respond({**environ, refusals.REASON: refusals.STREAMS})

    def _start_response(self, status: str, headers: Headers, exc_info: object = None) -> None:
        self._status = int(status.split(" ", 1)[0])
        self._headers = headers

    def _stream(self, response: Response, second: bytes, pieces: Iterator[bytes]) -> None:
        try:
            self._hand_over(self._client.send_head(response.status, response.headers))
            self._hand_over(self._client.send_piece(response.body))
            self._hand_over(self._client.send_piece(second))
            for piece in pieces:
                self._hand_over(self._client.send_piece(piece))
            self._hand_over(self._client.send_body(b""))
        except Gone:
            self._client.drop()
        except Exception:
            log.exception("a response ended early")
            self._client.drop()
            raise Gone from None

    def _hand_over(self, sending: Coroutine[object, object, None]) -> None:
        """Wait until the event loop has sent something."""
        future = asyncio.run_coroutine_threadsafe(sending, self._client.loop)
        future.result(STALL_SECONDS * 2)  # the event loop may have ended


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, joined to pieces of at least PIECE_BYTES but for the last one."""
    piece: list[bytes] = []
    size = 0
    for chunk in chunks:
        piece.append(chunk)
        size += len(chunk)
        if size >= PIECE_BYTES:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


def _close(chunks: object) -> None:
    close = getattr(chunks, "close", None)
    if close is not None:
        with suppress(Exception):
            close()
