"""A path to a database server that can fall silent, as a proxy that hangs does.

What is sent is taken and never answered. TCP sees nothing wrong with that.
"""

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65536


class Path:
    """Connections from a free port of the loopback interface to another port of it."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.silent = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._to_server: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = int(self._listener.getsockname()[1])
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        """Carry nothing any more, on new connections either. Nothing is closed."""
        self.silent = True

    def resume(self) -> None:
        """Carry new connections. Those from before stay silent for the clients, as after a
        failover; the server learns that they are gone.
        """
        for side in list(self._pairs):
            with suppress(KeyError, ValueError):
                self._selector.unregister(side)
            if side in self._to_server:
                side.close()
        self.silent = False

    def close(self) -> None:
        self._open = False
        self._thread.join(5)
        for side in [self._listener, *self._pairs]:
            side.close()

    def _serve(self) -> None:
        while self._open:
            for key, _ in self._selector.select(0.05):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._carry(key.fileobj)  # type: ignore[arg-type]

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self.silent:
            self._pairs[client] = client
            return
        try:
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            client.close()
            return
        self._to_server.add(server)
        for side, other in ((client, server), (server, client)):
            self._pairs[side] = other
            self._selector.register(side, selectors.EVENT_READ)

    def _carry(self, side: socket.socket) -> None:
        try:
            data = side.recv(_CHUNK)
            if self.silent:
                return
            if data:
                self._pairs[side].sendall(data)
                return
        except OSError:
            pass
        for end in (side, self._pairs[side]):
            with suppress(KeyError, ValueError):
                self._selector.unregister(end)
            end.close()


@contextmanager
def path_to(port: int) -> Iterator[Path]:
    path = Path(port)
    try:
        yield path
    finally:
        path.close()
