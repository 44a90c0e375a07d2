"""Clients that send or read slowly, or not at all, cost no thread of a real web server.

The server has two processes of two threads.
"""

import json
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from uuid import uuid4

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from graphs.auth import api_keys
from runs.engine.node_context import run_folder
from runs.engine.start import start_run
from runs.models import Artifact, LogLine
from tests.support.clusters import served, until

pytestmark = [pytest.mark.cluster, pytest.mark.django_db(transaction=True)]

MANY = 40  # connections
SOON = 8.0  # seconds, on a busy machine
LARGE = 12 * 2**20  # more than all buffers between server and client hold
LOGIN = "/admin/login/"


class Connection:
    """A connection whose receive buffer is small."""

    def __init__(self, address):
        host, port = address.removeprefix("http://").split(":")
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(SOON)
        self.socket.connect((host, int(port)))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.socket.close()

    def send(self, method, path, body=b"", length=None, **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
        self.socket.sendall("\r\n".join(lines).encode() + body)
        return self

    def head(self):
        """The status and the headers of the answer."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.socket.recv(1) or pytest.fail(f"the connection ended: {received!r}")
        status, *lines = received.decode("latin-1").strip().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        return int(status.split(" ")[1]), headers

    def is_open_at_the_server(self):
        """Whether the kernel lists the server's end of the connection as established."""
        ours, theirs = self.socket.getsockname()[1], self.socket.getpeername()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            local, remote, state = line.split()[1:4]
            if local.endswith(f":{theirs:04X}") and remote.endswith(f":{ours:04X}"):
                return state == "01"
        return False

    def rest(self):
        """Everything until the server closes the connection."""
        parts = []
        try:
            while data := self.socket.recv(2**16):
                parts.append(data)
        except ConnectionError:
            pass
        return b"".join(parts)


def status_of(address, method, path, body=b"", **headers):
    """The status of an answer, which must come soon."""
    began = monotonic()
    with Connection(address) as connection:
        status, _ = connection.send(method, path, body, **headers).head()
    assert monotonic() - began < SOON
    return status


def assert_serves(address, key):
    """Health, pages and requests with a body are answered."""
    for _ in range(4):
        assert status_of(address, "GET", "/healthz") == 200
        assert status_of(address, "GET", LOGIN) == 200
        assert status_of(address, "GET", "/graphs", X_API_Key=key) == 200
        body = json.dumps({"username": str(uuid4()), "password": "b"}).encode()
        kind = {"Content_Type": "application/json"}
        assert status_of(address, "POST", "/token", body, **kind) == 401


@pytest.fixture
def key(namespace):
    return api_keys.create_key(("alpha",), "admin")[1]


@pytest.fixture
def large_run(publish):
    """A run with a large file and a large log."""
    run = start_run(publish("a"))
    name = default_storage.save(f"{run_folder(run.pk)}/large.bin", ContentFile(b"x" * LARGE))
    state = run.states.get()
    Artifact.objects.create(
        run=run,
        state=state.pk,
        identifier="a",
        kind="file",
        name="large.bin",
        file=name,
        size=LARGE,
    )
    LogLine.objects.bulk_create(
        LogLine(run=run, message="y" * 10_000) for _ in range(LARGE // 10_000)
    )
    return run


def test_the_server_answers_beside_many_clients_that_drip_a_body(key):
    with served(WEB_THREADS="2") as address, ExitStack() as stack:
        drips = [stack.enter_context(Connection(address)) for _ in range(MANY)]
        for at, drip in enumerate(drips):
            path = (LOGIN, "/token", "/graphs", "/healthz")[at % 4]
            drip.send("POST", path, b"a", length=1000, X_API_Key=key)
        assert_serves(address, key)
        for drip in drips:
            drip.socket.sendall(b"b")
        assert_serves(address, key)


def test_a_body_that_takes_too_long_is_answered_with_408(key):
    with served(WEB_THREADS="2", CLIENT_SECONDS="1") as address, ExitStack() as stack:
        slow = [stack.enter_context(Connection(address)) for _ in range(2)]
        for connection, path in zip(slow, ("/token", LOGIN), strict=True):
            connection.send("POST", path, b"a", length=1000)
        for connection in slow:
            status, headers = connection.head()
            assert status == 408
            assert len(headers["x-request-id"]) == 36
            assert b"did not arrive in time" in connection.rest()  # and the connection ends


def test_a_body_that_is_too_large_is_refused_before_it_is_received():
    """The API's uploads are refused without a key, others whatever they carry."""
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    statuses = {
        **dict.fromkeys([LOGIN, "/token", "/nowhere", "/graphs"], 413),
        "/datasets": 401,
        "/admin/flow/datasets/": 302,
        "/admin/flow/new/": 302,
    }
    with served(WEB_THREADS="2") as address:
        for path, expected in statuses.items():
            with Connection(address) as connection:
                connection.send("POST", path, length=512 * 2**20, **kind)
                status, headers = connection.head()
                assert status == expected, path
                assert "x-request-id" in headers
                assert bytes_taken(connection) < 32 * 2**20, "the server read the body"


def bytes_taken(connection):
    """How much the server takes before it ends the connection."""
    sent = 0
    with suppress(ConnectionError):
        while True:
            sent += connection.socket.send(b"x" * 2**16)
    return sent


def test_an_upload_may_be_larger_than_other_bodies(key):
    lines = b"a\n" + (b"1" * 1000 + b"\n") * 6000
    head = b'--x\r\nContent-Disposition: form-data; name="'
    body = head + b'name"\r\n\r\nlarge\r\n' + head + b'files"; filename="t.csv"\r\n\r\n'
    body += lines + b"\r\n--x--\r\n"
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    with served(WEB_THREADS="2", MAX_UPLOAD_BYTES=str(len(body))) as address:
        with Connection(address) as connection:
            connection.socket.settimeout(60)
            assert (
                connection.send("POST", "/datasets/", body, X_API_Key=key, **kind).head()[0] == 201
            )
        more = status_of(address, "POST", "/datasets", b"", X_API_Key=key, **kind)
        assert more == 422
        with Connection(address) as connection:
            connection.send("POST", "/datasets", length=len(body) + 1, X_API_Key=key, **kind)
            assert connection.head()[0] == 413


def test_the_server_answers_beside_many_downloads_that_stall(large_run, key):
    """Files need no thread. Exports do, so only some of them are given at a time."""
    file = f"/runs/{large_run.run_id}/artifacts/{large_run.artifacts.get().pk}"
    log = f"/runs/{large_run.run_id}/bundle"
    with served(WEB_THREADS="2") as address, ExitStack() as stack:
        stalled = [stack.enter_context(Connection(address)) for _ in range(MANY)]
        for connection in stalled:
            connection.send("GET", file, X_API_Key=key)
            assert connection.head()[0] == 200
        assert_serves(address, key)
        exports = [stack.enter_context(Connection(address)) for _ in range(MANY)]
        answers = [connection.send("GET", log, X_API_Key=key).head() for connection in exports]
        statuses = [status for status, _ in answers]
        assert 1 <= statuses.count(200) <= 2, statuses
        assert statuses.count(503) == MANY - statuses.count(200)
        refused = dict(answers)[503]
        assert refused["retry-after"] == "5"
        assert_serves(address, key)


def test_a_download_that_stalls_is_given_up(large_run, key):
    """The client can't take a part of a file for the whole, and the thread is free again."""
    paths = [
        f"/runs/{large_run.run_id}/bundle",
        f"/runs/{large_run.run_id}/artifacts/{large_run.artifacts.get().pk}",
    ]
    with served(WEB_THREADS="1", CLIENT_SECONDS="1") as address:
        for path in paths:
            with Connection(address) as stalled:
                assert stalled.send("GET", path, X_API_Key=key).head()[0] == 200
                assert until(lambda stalled=stalled: not stalled.is_open_at_the_server())
                received = stalled.rest()  # to the end of the connection
            assert len(received) < LARGE
            assert not received.endswith(b"\r\n0\r\n\r\n")
            for _ in range(4):
                assert status_of(address, "GET", path, X_API_Key=key) == 200
        assert_serves(address, key)


def test_a_client_that_reads_on_gets_all_of_an_export(large_run, key):
    with served(WEB_THREADS="2") as address, Connection(address) as connection:
        path = f"/runs/{large_run.run_id}/bundle"
        status, headers = connection.send("GET", path, X_API_Key=key, Connection="close").head()
        assert (status, headers["transfer-encoding"]) == (200, "chunked")
        received = connection.rest()
        assert received.endswith(b"\r\n0\r\n\r\n")
        assert received.count(b"y" * 10_000) > 0
