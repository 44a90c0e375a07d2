"""The way of a request through `slow_clients`, without a server."""

import asyncio
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from statemanager import refusals
from statemanager.slow_clients import application, body, client, slots
from statemanager.slow_clients.application import SlowClients

LARGE = 3 * body.MEMORY_BYTES + 1


class Visitor:
    """A client: what it sends, and what it has received."""

    def __init__(self, path="/", method="GET", content=b"", length=None, **headers):
        length = len(content) if length is None else length
        names = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
        if length:
            names[b"content-length"] = str(length).encode()
        self.scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": list(names.items()),
        }
        pieces = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
        self.events = asyncio.Queue()
        for piece in pieces:
            more = not (piece is pieces[-1] and len(content) == length)
            self.events.put_nowait({"type": "http.request", "body": piece, "more_body": more})
        self.received = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def send(self, message):
        await self.reads.wait()
        self.received.append(message)

    def go(self):
        self.events.put_nowait({"type": "http.disconnect"})

    def visit(self, served):
        return asyncio.create_task(served(self.scope, self.events.get, self.send))

    @property
    def status(self):
        return self.received[0]["status"]

    @property
    def content(self):
        return b"".join(message.get("body", b"") for message in self.received[1:])

    @property
    def is_complete(self):
        return bool(self.received) and not self.received[-1].get("more_body", True)


class Site:
    """A WSGI application. `/wait` waits for `go_on`, `/stream` gives pieces for ever."""

    def __init__(self):
        self.go_on = threading.Event()
        self.closed = threading.Event()
        self.working = threading.Semaphore(0)
        self.bodies = []

    def __call__(self, environ, start_response):
        why = environ.get(refusals.REASON)
        path = environ["PATH_INFO"]
        start_response("503 Busy" if why else "200 OK", [("X-Why", str(why))])
        if why:
            return [why.encode()]
        if path == "/wait":
            self.working.release()
            assert self.go_on.wait(30)
        if path == "/stream":
            return self.stream()
        if path == "/file":
            self.file = io.BytesIO(b"f" * LARGE)
            return environ["wsgi.file_wrapper"](self.file)
        if path == "/broken":
            return self.broken()
        self.bodies.append(environ["wsgi.input"].read())
        return [b"answer"]

    def stream(self):
        try:
            while True:
                yield b"x" * 1000
        finally:
            self.closed.set()

    def broken(self):
        yield b"x" * 200_000
        yield b"x" * 200_000
        raise RuntimeError("the database went away")


@pytest.fixture
def site():
    made = Site()
    yield made
    made.go_on.set()


@pytest.fixture
def cut(monkeypatch):
    """The connections that are cut."""
    connections = []
    monkeypatch.setattr(client.sockets, "cut", lambda *ends: connections.append(ends) or True)
    return connections


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def run(test):
    """Run a coroutine in a thread of its own: this one may have an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(asyncio.wait_for(test, 60))).result()


@pytest.mark.parametrize("content", [b"", b"a=1", b"y" * LARGE])
def test_the_application_is_given_the_whole_body(site, content):
    async def test():
        visitor = Visitor(method="POST", content=content)
        await visitor.visit(SlowClients(site, 1))
        assert (visitor.status, visitor.content) == (200, b"answer")
        assert len(visitor.received) == 2, "an answer is sent in one piece"
        assert site.bodies == [content]

    run(test())


def test_a_client_that_goes_while_it_sends_is_forgotten(site):
    async def test():
        visitor = Visitor(method="POST", content=b"a", length=100)
        visitor.go()
        await visitor.visit(SlowClients(site, 1))
        assert visitor.received == site.bodies == []

    run(test())


def test_requests_that_wait_too_long_for_a_thread_are_refused_and_health_is_not(site, monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)

    async def test():
        served = SlowClients(site, 2)
        waiting = [Visitor("/wait").visit(served) for _ in range(2)]
        await until(lambda: site.working.acquire(blocking=False))
        await until(lambda: site.working.acquire(blocking=False))
        refused = Visitor("/")
        await refused.visit(served)
        assert refused.content == refusals.BUSY.encode()
        for path in ("/healthz", "/healthz/", "/readyz", "/health"):
            healthy = Visitor(path)
            await healthy.visit(served)
            assert healthy.status == 200
        site.go_on.set()
        await asyncio.gather(*waiting)
        again = Visitor("/")
        await again.visit(served)
        assert again.status == 200

    run(test())


def test_requests_get_threads_in_their_order_and_those_of_clients_that_went_do_not(site):
    async def test():
        served = SlowClients(site, 1)
        first = Visitor("/wait").visit(served)
        await until(lambda: site.working.acquire(blocking=False))
        gone, kept = Visitor("/wait"), Visitor("/")
        tasks = [gone.visit(served), kept.visit(served)]
        gone.go()
        await tasks[0]
        assert gone.received == []
        site.go_on.set()
        await asyncio.gather(first, tasks[1])
        assert kept.status == 200
        assert served._slots.free == 1

    run(test())


def test_a_stream_ends_when_its_client_goes(site):
    async def test():
        served = SlowClients(site, 2)
        visitor = Visitor("/stream")
        task = visitor.visit(served)
        await until(lambda: len(visitor.received) > 3)
        visitor.go()
        await task
        assert site.closed.is_set()
        assert not visitor.is_complete
        assert served._slots.free == 2

    run(test())


def test_a_stream_ends_when_its_client_stops_reading(site, cut, monkeypatch):
    monkeypatch.setattr(client, "STALL_SECONDS", 0.05)

    async def test():
        visitor = Visitor("/stream")
        task = visitor.visit(SlowClients(site, 2))
        await until(lambda: len(visitor.received) > 3)
        visitor.reads.clear()
        await task
        assert site.closed.is_set()
        assert len(cut) == 1

    run(test())


def test_an_export_that_fails_is_not_taken_for_a_whole_one(site, cut):
    async def test():
        visitor = Visitor("/broken")
        await visitor.visit(SlowClients(site, 1))
        assert len(cut) == 1
        assert not visitor.is_complete

    run(test())


def test_a_file_whose_client_stops_reading_is_closed(site, cut, monkeypatch):
    monkeypatch.setattr(client, "STALL_SECONDS", 0.05)

    async def test():
        visitor = Visitor("/file")
        visitor.send = stalls_after(visitor, 3)
        await visitor.visit(SlowClients(site, 1))
        assert len(cut) == 1
        assert site.file.closed

    run(test())


def stalls_after(visitor, messages):
    async def send(message):
        if len(visitor.received) == messages:
            await asyncio.Event().wait()
        visitor.received.append(message)

    return send


def test_a_file_occupies_no_thread_while_it_is_sent(site):
    async def test():
        served = SlowClients(site, 1)
        reader = Visitor("/file")
        reader.send = held = stalls_after(reader, 2)
        task = reader.visit(served)
        await until(lambda: len(reader.received) == 2)
        other = Visitor("/")
        await other.visit(served)
        assert other.status == 200
        assert held is reader.send
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        whole = Visitor("/file")
        await whole.visit(served)
        assert whole.content == b"f" * LARGE
        assert whole.is_complete

    run(test())


def test_only_some_of_the_threads_stream(site):
    async def test():
        served = SlowClients(site, 4)
        readers = [Visitor("/stream") for _ in range(2)]
        tasks = [reader.visit(served) for reader in readers]
        await until(lambda: all(len(reader.received) > 2 for reader in readers))
        refused = Visitor("/stream")
        await refused.visit(served)
        assert refused.content == refusals.STREAMS.encode()
        for reader in readers:
            reader.go()
        await asyncio.gather(*tasks)

    run(test())


def test_the_head_of_a_stream_has_no_body(site):
    async def test():
        visitor = Visitor("/stream", "HEAD")
        await visitor.visit(SlowClients(site, 1))
        assert (visitor.status, visitor.content) == (200, b"")
        assert visitor.is_complete

    run(test())


@pytest.mark.parametrize("path", ["/datasets", "/admin/flow/datasets/"])
def test_only_so_many_uploads_are_received_at_once(site, settings, monkeypatch, path):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    monkeypatch.setattr(application, "UPLOADS_AT_ONCE", 1)

    async def test():
        served = SlowClients(site, 2)
        first, second = (
            Visitor(path, "POST", content=b"a" * 11, length=length) for length in (12, 11)
        )
        task = first.visit(served)
        await until(lambda: len(site.bodies) == 1)  # the GET that asks whether it may
        await second.visit(served)
        assert second.content == refusals.UPLOADS.encode()
        first.events.put_nowait({"type": "http.request", "body": b"b", "more_body": False})
        await task
        assert site.bodies == [b"", b"a" * 11 + b"b"]

    run(test())


@pytest.mark.parametrize(
    ("content", "expected"), [(b"a", refusals.CHUNKED.encode()), (b"", b"answer")]
)
def test_a_body_of_http_2_without_a_length_is_refused(site, content, expected):
    """WSGI would read it as empty."""

    async def test():
        visitor = Visitor(method="POST")
        visitor.scope["http_version"] = "2"
        for data in (b"", content):
            visitor.events.put_nowait({"type": "http.request", "body": data, "more_body": not data})
        visitor.events.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        await visitor.visit(SlowClients(site, 1))
        assert visitor.content == expected

    run(test())


@pytest.mark.parametrize(("size", "is_file"), [(body.MEMORY_BYTES, False), (LARGE, True)])
def test_a_large_body_is_a_file(size, is_file):
    async def test():
        visitor = Visitor(content=b"z" * size)
        with application.ThreadPoolExecutor(1) as files:
            received = await body.receive_body(visitor.events.get, size, files)
        with received:
            assert received.read() == b"z" * size
            assert isinstance(received, io.BytesIO) is not is_file

    run(test())
