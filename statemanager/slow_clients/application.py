"""The ASGI application: what happens to a request, from its first byte to its last."""

import io
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import BoundedSemaphore

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope
from django.conf import settings

from statemanager import refusals
from statemanager.middleware import routed_path
from statemanager.slow_clients import environ as environs
from statemanager.slow_clients.body import TooSlow, comes_unannounced, receive_body
from statemanager.slow_clients.client import Client, Gone
from statemanager.slow_clients.environ import Environ
from statemanager.slow_clients.response import (
    PIECE_BYTES,
    File,
    Responder,
    Response,
    WsgiApplication,
)
from statemanager.slow_clients.slots import Busy, Slots

RESERVED_THREADS = 2  # for health pages and refusals
FILE_THREADS = 2  # read and write files, a piece at a time
UPLOADS_AT_ONCE = 4  # bodies above the usual limit
HEALTH = ("/healthz", "/readyz", "/health")


class SlowClients:
    """Runs a WSGI application in so many threads of this process."""

    def __init__(self, application: WsgiApplication, threads: int) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "request")
        self._reserve = ThreadPoolExecutor(RESERVED_THREADS, "reserve")
        self._files = ThreadPoolExecutor(FILE_THREADS, "file")
        self._slots = Slots(threads)
        self._streams = BoundedSemaphore(max(threads // 2, 1))
        self._uploads = 0

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": None})
        else:
            await self._serve(scope, Client(scope, receive, send))

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for pool in (self._threads, self._reserve, self._files):
            pool.shutdown(wait=False, cancel_futures=True)
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: HTTPScope, client: Client) -> None:
        environ = environs.build(scope)
        try:
            response = await self._respond(environ, client)
            if response is not None:
                await self._send(response, client)
        except Gone:
            pass
        finally:
            client.close()

    async def _respond(self, environ: Environ, client: Client) -> Response | None:
        """The response; None if it has been sent."""
        if refusals.reason(environ):
            return await self._in_reserve(environ, client)
        length = refusals.length_of(environ)
        if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return await self._upload(environ, length, client)
        return await self._receive_and_run(environ, length, client)

    async def _receive_and_run(
        self, environ: Environ, length: int, client: Client
    ) -> Response | None:
        try:
            if not length:
                if await comes_unannounced(client):
                    return await self._refuse(environ, refusals.CHUNKED, client)
                return await self._run(environ, client)
            body = await receive_body(client.receive, length, self._files)
        except TooSlow:
            return await self._refuse(environ, refusals.TOO_SLOW, client)
        with body:
            return await self._run({**environ, "wsgi.input": body}, client)

    async def _upload(self, environ: Environ, length: int, client: Client) -> Response | None:
        """Receive a large body, but only from a client to whom its path is open.

        The path is asked for first, as by a GET without a body. So nobody fills the disk who
        couldn't upload anything.
        """
        if self._uploads >= UPLOADS_AT_ONCE:
            return await self._refuse(environ, refusals.UPLOADS, client)
        self._uploads += 1
        try:
            page = await self._run(_as_get(environ), client)
            if page is None or not _is_open(page.status):
                return page
            return await self._receive_and_run(environ, length, client)
        finally:
            self._uploads -= 1

    async def _run(self, environ: Environ, client: Client) -> Response | None:
        """Run the application in one of the threads. Health pages have a reserve beside them."""
        if not self._slots.free and routed_path(str(environ["PATH_INFO"])) in HEALTH:
            return await self._in_reserve(environ, client)
        try:
            await self._slots.take(client)
        except Busy:
            return await self._refuse(environ, refusals.BUSY, client)
        try:
            return await self._in(self._threads, environ, client)
        finally:
            self._slots.give_back()

    async def _refuse(self, environ: Environ, reason: str, client: Client) -> Response | None:
        return await self._in_reserve({**environ, refusals.REASON: reason}, client)

    async def _in_reserve(self, environ: Environ, client: Client) -> Response | None:
        return await self._in(self._reserve, environ, client)

    async def _in(
        self, pool: ThreadPoolExecutor, environ: Environ, client: Client
    ) -> Response | None:
        responder = Responder(self._application, self._streams, client)
        return await client.loop.run_in_executor(pool, responder.respond, environ)

    async def _send(self, response: Response, client: Client) -> None:
        await client.send_head(response.status, response.headers)
        if response.rest is None:
            await client.send_body(response.body)
        else:
            await self._send_file(response.body, response.rest, client)

    async def _send_file(self, piece: bytes, file: File, client: Client) -> None:
        """Send a file piece by piece. A thread reads each of them, and waits for nobody."""
        try:
            while piece:
                await client.send_piece(piece)
                piece = await client.loop.run_in_executor(self._files, file.read, PIECE_BYTES)
            await client.send_body(b"")
        except (Gone, OSError):
            client.drop()
        finally:
            with suppress(RuntimeError):  # the pool has ended with the server
                await client.loop.run_in_executor(self._files, file.close)


def _as_get(environ: Environ) -> Environ:
    """The same request as a GET without a body."""
    left_out = ("CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_IDEMPOTENCY_KEY")
    kept = {key: value for key, value in environ.items() if key not in left_out}
    return {**kept, "REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}


def _is_open(status: int) -> bool:
    """Whether the client may use a path that answers so. 405: it may, but only by POST."""
    return status in (200, 304, 405)
