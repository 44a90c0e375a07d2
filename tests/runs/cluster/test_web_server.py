"""The web server of `manage.py up` is started again when it ends."""

import os
import signal

from runs.cluster.web_server import WebServer
from tests.support.clusters import free_port, until


def test_a_web_server_that_is_killed_at_once_is_started_again():
    server = WebServer("127.0.0.1", free_port())
    try:
        first = server._process
        os.kill(first.pid, signal.SIGKILL)
        assert until(lambda: server.tick() is None and server._process is not first)
    finally:
        server.terminate()
        server.wait()


def test_a_web_server_that_cannot_start_gives_its_exit_code():
    server = WebServer("256.0.0.1", free_port())  # there is no such address
    try:
        assert until(server.tick)
    finally:
        server.wait()
