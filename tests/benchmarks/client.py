"""A keep-alive HTTP client that costs next to nothing, so that a benchmark on one machine measures
the server.
"""

import json
import socket
from typing import Any


class Link:
    """One connection. `call` gives (status, body as bytes)."""

    def __init__(self, address: str, key: str) -> None:
        host, port = address.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = f"Host: {host}\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n"

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        data = json.dumps(body).encode() if body is not None else b""
        self._socket.sendall(
            f"{method} {path} HTTP/1.1\r\n{self._head}Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = received[:end].lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        parts = [received[end + 4 :]]
        while sum(map(len, parts)) < length:
            parts.append(self._more())
        return int(head[9:12]), b"".join(parts)

    def _more(self) -> bytes:
        if not (data := self._socket.recv(65536)):
            raise ConnectionError("the server closed the connection")
        return data

    def json(self, method: str, path: str, body: Any = None) -> Any:
        status, data = self.call(method, path, body)
        if status >= 300:
            raise AssertionError(f"{method} {path}: {status} {data[:300]!r}")
        return json.loads(data)

    def close(self) -> None:
        self._socket.close()
