"""The client of one request, as the event loop sees it."""

import asyncio
import logging

from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from statemanager.slow_clients import sockets

log = logging.getLogger(__name__)

STALL_SECONDS = 30  # for a client to take a piece of a response
Headers = list[tuple[str, str]]


class Gone(Exception):
    """The client has closed the connection, or has stopped reading."""


class Client:
    def __init__(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.loop = asyncio.get_running_loop()
        self._send = send
        self._watch: asyncio.Task[None] | None = None

    async def send_head(self, status: int, headers: Headers) -> None:
        encoded = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers
        ]
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": encoded,
                "trailers": False,
            }
        )

    async def send_body(self, data: bytes) -> None:
        """Send the rest of the body. The server takes it at once, however slow the client is."""
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def send_piece(self, data: bytes) -> None:
        """Send a piece of the body once the client has taken what came before.

        Raises Gone if that takes too long, or if the client has closed the connection, which
        servers don't say when something is sent.
        """
        if self.watch().done():
            raise Gone
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError:
            raise Gone from None

    def watch(self) -> "asyncio.Task[None]":
        """A task that is done when the client has closed the connection."""
        if self._watch is None:
            self._watch = self.loop.create_task(self._until_gone())
        return self._watch

    async def _until_gone(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def drop(self) -> None:
        """Cut the connection, so that the client notices that the response is not complete.

        Any thread may call this.
        """
        if self._watch is not None and self._watch.done():
            return
        if not sockets.cut(self.scope.get("client"), self.scope.get("server")):
            log.warning("a client's connection could not be cut; its response ends early")

    def close(self) -> None:
        """End the watch."""
        if self._watch is not None:
            self._watch.cancel()
