"""An HTTP client that costs next to nothing.

Client and server share one machine, and the benchmark is to measure the server.
"""

import json
import socket
from typing import Any


class Connection:
    """One keep-alive connection."""

    def __init__(self, address: str, key: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {host}\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Send a request, with `body` as JSON; gives the status and the body of the answer."""
        data = json.dumps(body).encode() if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n"
        self._socket.sendall(head.encode() + data)
        return self._receive()

    def _receive(self) -> tuple[int, bytes]:
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._read()
        head = received[:end].lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        parts = [received[end + 4 :]]
        while sum(map(len, parts)) < length:
            parts.append(self._read())
        return int(head[9:12]), b"".join(parts)

    def _read(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def json(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of the answer. Raises AssertionError if the request fails."""
        status, data = self.call(method, path, body)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {data[:300]!r}")
        return json.loads(data)

    def close(self) -> None:
        self._socket.close()
