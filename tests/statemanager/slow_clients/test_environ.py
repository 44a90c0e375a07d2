"""The environment of a request is the one that granian makes for a WSGI application."""

import json
import os
import socket
import subprocess

import pytest

from statemanager.slow_clients import environ
from tests.support.clusters import ROOT, end, environment, free_port, granian, until

OF_THE_SERVER = ("GATEWAY_INTERFACE", "SERVER_SOFTWARE", "SERVER_PORT")
HOST = b"Host: example.org\r\n"
REQUESTS = {
    "plain": b"GET /a/b HTTP/1.1\r\n" + HOST,
    "query": b"GET /a?x=%20y&z=%C3%A4&x=+ HTTP/1.1\r\n" + HOST,
    "UTF-8 in the path": b"GET /runs/%E4%B8%AD HTTP/1.1\r\n" + HOST,
    "bytes that are not UTF-8": b"GET /runs/caf%E9 HTTP/1.1\r\n" + HOST,
    "an encoded slash": b"GET /runs/a%2Fb%252F HTTP/1.1\r\n" + HOST,
    "a broken escape": b"GET /runs/a%zz%2 HTTP/1.1\r\n" + HOST,
    "two slashes": b"GET //runs//a/ HTTP/1.1\r\n" + HOST,
    "an absolute address": b"GET http://other.org/a HTTP/1.1\r\n" + HOST,
    "HTTP/1.0 without a host": b"GET /a HTTP/1.0\r\n",
    "another method": b"OPTIONS /a HTTP/1.1\r\n" + HOST,
    "a body": b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nContent-Type: text/x; y=z\r\n" + HOST,
    "repeated headers": b"GET /a HTTP/1.1\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\n" + HOST,
    "two cookies": b"GET /a HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2, c\r\n" + HOST,
    "a proxy": b"GET /a HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.2.3.4, ::1\r\n"
    + HOST,
}


@pytest.fixture(scope="module")
def servers():
    """The ports of the same application under both interfaces, and the same below a prefix."""
    commands = {
        (interface, prefix): [
            *granian(free_port(), *prefix, interface=interface)[:-1],
            f"tests.support.echo:{interface}",
        ]
        for interface in ("wsgi", "asgi")
        for prefix in ((), ("--url-path-prefix", "/below"))
    }
    processes = [
        subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True)
        for command in commands.values()
    ]
    ports = {name: int(command[command.index("--port") + 1]) for name, command in commands.items()}
    try:
        for port in ports.values():
            until(lambda port=port: answers(port))
        yield ports
    finally:
        for process in processes:
            end(process)


def answers(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def echoed(port, request):
    """The environment that the application was given."""
    body = b"abc" if b"Content-Length" in request else b""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request + b"Connection: close\r\n\r\n" + body)
        with connection.makefile("rb") as file:
            head, _, content = file.read().partition(b"\r\n\r\n")
    assert head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")), head
    if b"chunked" in head:
        content = content.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]
    answer = json.loads(content)
    left_out = (*OF_THE_SERVER, *os.environ, *environment())
    return {key: value for key, value in answer.items() if key not in left_out}


@pytest.mark.parametrize("request_head", REQUESTS.values(), ids=REQUESTS.keys())
def test_both_interfaces_give_the_same_environment(servers, request_head):
    wsgi, asgi = (echoed(servers[name, ()], request_head) for name in ("wsgi", "asgi"))
    assert asgi == wsgi
    assert asgi["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize("path", [b"/below/runs/a%2Fb", b"/below/"])
def test_an_application_below_a_prefix_gets_the_same_environment(servers, path):
    request_head = b"GET " + path + b" HTTP/1.1\r\n" + HOST
    prefix = ("--url-path-prefix", "/below")
    wsgi, asgi = (echoed(servers[name, prefix], request_head) for name in ("wsgi", "asgi"))
    assert asgi == wsgi
    assert asgi["SCRIPT_NAME"] == "/below"


def test_a_client_cannot_write_a_header_of_the_proxy_in_another_form():
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": [(b"x_forwarded_for", b"1.2.3.4"), (b"x-forwarded-for", b"5.6.7.8")],
    }
    assert environ.build(scope)["HTTP_X_FORWARDED_FOR"] == "5.6.7.8"
    assert environ.build(scope)["SERVER_NAME"] == "localhost"


def test_bytes_of_a_header_are_kept():
    """granian drops such a value. Django reads it as latin-1, as the standard says."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/ä",
        "query_string": b"",
        "headers": [(b"x-name", "ä".encode())],
    }
    built = environ.build(scope)
    assert built["HTTP_X_NAME"].encode("latin-1").decode() == "ä"
    assert built["PATH_INFO"].encode("latin-1").decode() == "/ä"
