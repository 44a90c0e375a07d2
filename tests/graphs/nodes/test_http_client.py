"""The HTTP client of nodes, against servers that misbehave. They listen on loopback addresses."""

import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic

import pytest

from graphs.nodes import http_client
from graphs.nodes.base import NodeFailed
from runs.models import LogLine


@pytest.fixture(autouse=True)
def _loopback_is_allowed(conf):
    conf.ALLOW_PRIVATE_ADDRESSES = True


@contextmanager
def serving(answer, host="127.0.0.1"):
    """Serve `answer(handler)` for every request; yield the address and the requests' headers."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            received.append({key.lower(): value for key, value in self.headers.items()})
            with suppress(OSError):  # the client may be gone
                answer(self)

        do_POST = do_GET

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer_with(body=b"", status=200, **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def get(url, headers=(), timeout=10):
    return http_client.send("GET", url, dict(headers), None, timeout)


CREDENTIALS = {"Authorization": "Bearer t", "Cookie": "a=b", "X-Api-Key": "k", "Accept": "text/x"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_credentials_are_not_sent_to_another_origin(status):
    with (
        serving(answer_with(b"other")) as (other, received),
        serving(answer_with(status=status, Location=f"{other}/there")) as (first, _),
    ):
        assert get(first, CREDENTIALS).content == b"other"
    [headers] = received
    assert headers["accept"] == "text/x"
    assert not {"authorization", "cookie", "x-api-key"} & headers.keys()


def test_credentials_are_sent_to_the_same_origin():
    def answer(handler):
        if handler.path == "/":
            answer_with(status=302, Location="/there")(handler)
        else:
            answer_with(b"same")(handler)

    with serving(answer) as (address, received):
        assert get(address, CREDENTIALS).content == b"same"
    assert [headers["authorization"] for headers in received] == ["Bearer t"] * 2


def drip_body(handler, stop):
    handler.send_response(200)
    handler.end_headers()
    drip(handler, stop)


def drip_headers(handler, stop):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(handler, stop)


def drip(handler, stop):
    while not stop.wait(0.05):
        handler.wfile.write(b"x")
        handler.wfile.flush()


@pytest.mark.parametrize("dripping", [drip_body, drip_headers])
def test_a_server_that_drips_is_cut_off_at_the_deadline(dripping):
    stop = threading.Event()
    began = monotonic()
    try:
        with serving(lambda handler: dripping(handler, stop)) as (address, _):
            with pytest.raises(NodeFailed, match=r"it took longer than 0\.5 s"):
                get(address, timeout=0.5)
            assert monotonic() - began < 5
            stop.set()
    finally:
        stop.set()


def test_redirects_share_one_deadline():
    def answer(handler):
        threading.Event().wait(0.2)  # a slow server, not a condition
        answer_with(status=302, Location="/again")(handler)

    with serving(answer) as (address, _), pytest.raises(NodeFailed, match="failed: "):
        get(address, timeout=0.5)


def test_a_host_that_refuses_connections_is_named():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(NodeFailed, match=r"GET http://127\.0\.0\.1:\d+/ failed: NewConnection"):
            get(f"http://127.0.0.1:{closed.getsockname()[1]}/")


def test_the_next_address_of_a_host_is_tried(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.2", 0))  # nobody listens there
    with serving(answer_with(b"here")) as (address, _):
        monkeypatch.setattr(
            http_client, "public_addresses", lambda host, port: ["127.0.0.2", "127.0.0.1"]
        )
        assert get(address).content == b"here"


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("text/plain; charset=latin-1", "größe".encode("latin-1"), "größe"),
        ("text/plain", "größe".encode(), "größe"),
        ("text/html; charset=ISO-8859-1", "größe".encode("latin-1"), "größe"),
        ("text/plain; charset=latin-1", "größe".encode("utf-8-sig"), "größe"),
        ("application/json", "{}".encode("utf-8-sig"), {}),
        ("application/json", '{"ä": 1}'.encode("utf-16"), {"ä": 1}),
        ("text/plain; charset=nonsense", b"a\x00b", "ab"),
        ("application/problem+json", b'{"a": 1}', {"a": 1}),
        ("application/json; charset=utf-16", '{"ä": 1}'.encode("utf-16"), {"ä": 1}),
        ("application/json", b"", ""),
    ],
)
def test_the_body_is_decoded_as_its_content_type_says(content_type, body, value):
    with serving(answer_with(body, Content_Type=content_type)) as (address, _):
        assert get(address).decoded() == value


def request(run_graph, address, **inputs):
    inputs = {"h": {"url": address, **inputs}}
    return run_graph("h", kinds={"h": "http.request"}, inputs=inputs)


@pytest.mark.django_db
def test_bytes_that_are_not_in_the_charset_of_the_response_are_mentioned(run_graph):
    with serving(answer_with(b"gr\xf6\xdfe", Content_Type="text/plain")) as (address, _):
        run = request(run_graph, address)
    assert run.states.get().outputs["body"] == "gr\ufffd\ufffde"
    line = LogLine.objects.get(run=run, level="warning")
    assert line.message.endswith("the body has bytes that are not utf-8")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content_type", "sent"),
    [
        ("text/plain; charset=ISO-8859-1", "größe".encode("latin-1")),
        ("text/plain; charset=utf-16-le", "größe".encode("utf-16-le")),
        ("text/plain", "größe".encode()),
    ],
)
def test_text_is_sent_in_the_charset_of_its_content_type(run_graph, content_type, sent):
    bodies = []

    def answer(handler):
        bodies.append(handler.rfile.read(int(handler.headers["Content-Length"])))
        answer_with(b"{}")(handler)

    with serving(answer) as (address, _):
        headers = {"content-type": content_type}
        run = request(run_graph, address, method="POST", body="größe", headers=headers)
    assert (run.status, bodies) == ("completed", [sent])


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("charset", "reason"),
    [("ascii", "can't be sent as ascii, beginning at 'ö"), ("klingon", "unknown charset")],
)
def test_text_that_its_charset_cannot_express_is_not_sent(run_graph, charset, reason):
    with serving(answer_with()) as (address, received):
        headers = {"Content-Type": f"text/plain; charset={charset}"}
        run = request(run_graph, address, method="POST", body="größe", headers=headers)
    assert reason in run.error_message
    assert received == []


@pytest.mark.parametrize(
    "url", ["ftp://example.org/", "http://ann:secret@example.org/", "http://", "//x", "http://[::1"]
)
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(NodeFailed, match="not an http or https URL"):
        get(url)


def test_an_address_that_is_no_ascii_is_encoded():
    with serving(answer_with(b"x")) as (address, _):
        assert get(f"{address}/größe?q=ä ö").status == 200
