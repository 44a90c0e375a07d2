"""Cutting the connection of a client that has stopped reading.

ASGI has no message for this. A server ends the response when the application returns, and a client
that wakes up would take half a file for a whole one.
"""

import os
import socket
from contextlib import suppress

Address = tuple[str, int | str | None]
DESCRIPTORS = "/dev/fd"


def cut(client: Address | None, server: Address | None) -> bool:
    """Shut down the socket between these two addresses. Returns whether one was found.

    The server that owns the socket notices the end of the connection and closes it.
    """
    if not client or not server:
        return False
    wanted = _key(client), _key(server)
    for name in os.listdir(DESCRIPTORS):
        with suppress(OSError):
            if _cut_if(int(name), wanted):
                return True
    return False


def _cut_if(descriptor: int, wanted: tuple[str, str]) -> bool:
    """The socket is looked at through a duplicate, because the server may close its own."""
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return False
        ends = _key(connection.getpeername()), _key(connection.getsockname())
        if ends != wanted:
            return False
        connection.shutdown(socket.SHUT_RDWR)
        return True


def _key(address: Address) -> str:
    return f"{str(address[0]).removeprefix('::ffff:')} {address[1]}"
