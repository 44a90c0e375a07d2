"""Cutting the connection between two addresses."""

import socket

import pytest

from statemanager.slow_clients import sockets


def test_the_connection_of_a_client_is_cut_and_no_other():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as first,
        socket.create_connection(server.getsockname()) as second,
        server.accept()[0] as to_first,
        server.accept()[0] as to_second,
    ):
        address, port = first.getsockname()
        assert sockets.cut((address, str(port)), server.getsockname())
        assert first.recv(1) == b""
        to_second.sendall(b"a")
        assert second.recv(1) == b"a"
        with pytest.raises(BrokenPipeError):
            to_first.send(b"a")


def test_a_connection_that_is_gone_is_not_found():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not sockets.cut(("127.0.0.1", 1), server.getsockname())
    assert not sockets.cut(None, None)
