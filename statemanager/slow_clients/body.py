"""Receiving the body of a request, in memory or in a temporary file, before a deadline."""

import asyncio
import io
import tempfile
from concurrent.futures import Executor
from typing import IO

from asgiref.typing import ASGIReceiveCallable

from statemanager.slow_clients.client import Client, Gone

SECONDS = 20  # for any body
BYTES_PER_SECOND = 2**16  # a large body may take longer
MEMORY_BYTES = 2**18  # a larger body is a file
WRITE_BYTES = 2**20  # written to the file at once


class TooSlow(Exception):
    """The deadline came before the end of the body."""


async def receive_body(receive: ASGIReceiveCallable, length: int, files: Executor) -> IO[bytes]:
    """The body of this length, at its start; the caller closes it.

    `files` are the threads that write to the file. Raises TooSlow, and Gone if the client goes.
    """
    body: IO[bytes]
    in_memory = length <= MEMORY_BYTES
    body = io.BytesIO() if in_memory else tempfile.TemporaryFile()  # noqa: SIM115
    try:
        async with asyncio.timeout(SECONDS + length / BYTES_PER_SECOND):
            await _copy(receive, length, body, None if in_memory else files)
    except BaseException as error:
        body.close()
        if isinstance(error, TimeoutError):
            raise TooSlow from error
        raise
    body.seek(0)
    return body


async def comes_unannounced(client: Client) -> bool:
    """Whether a request without a length has a body all the same, which HTTP/2 allows.

    Raises TooSlow, and Gone if the client goes.
    """
    if client.scope["http_version"] < "2" or client.scope["method"] in ("GET", "HEAD"):
        return False
    try:
        async with asyncio.timeout(SECONDS):
            while True:
                event = await client.receive()
                if event["type"] != "http.request":
                    raise Gone
                if event.get("body") or not event.get("more_body"):
                    return bool(event.get("body"))
    except TimeoutError as error:
        raise TooSlow from error


async def _copy(
    receive: ASGIReceiveCallable, length: int, body: IO[bytes], files: Executor | None
) -> None:
    received = 0
    waiting: list[bytes] = []  # received, but not written
    more = True
    while more and received < length:
        event = await receive()
        if event["type"] != "http.request":
            raise Gone
        data = event.get("body", b"")
        more = event.get("more_body", False)
        received += len(data)
        if files is None:
            body.write(data)
            continue
        waiting.append(data)
        if received >= length or not more or sum(map(len, waiting)) >= WRITE_BYTES:
            await asyncio.get_running_loop().run_in_executor(files, body.write, b"".join(waiting))
            waiting.clear()
