"""A WSGI application that answers with its environment, and the same one for ASGI."""

import json
from typing import Any

import django

django.setup()

from statemanager.slow_clients.application import SlowClients  # noqa: E402


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    texts = {key: value for key, value in environ.items() if isinstance(value, str | bool)}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({**texts, "body": bytes(body).decode("latin-1")}).encode()]


asgi = SlowClients(wsgi, 2)
