"""A client of the JSON API."""

import json
from typing import Any

from django.test import Client


class ApiClient:
    """Sends JSON, with an API key if there is one. A call returns (status, body)."""

    def __init__(self, key: str | None = None, **headers: str) -> None:
        self.client = Client(headers={**({"X-API-Key": key} if key else {}), **headers})
        self.response: Any = None

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """`body` is sent as JSON; text and bytes are sent as they are."""
        if body is None:
            data: str | bytes = b""
        elif isinstance(body, str | bytes):
            data = body
        else:
            data = json.dumps(body)
        self.response = self.client.generic(
            method, path, data, content_type="application/json", headers=headers
        )
        return self.response.status_code, self._body()

    def _body(self) -> Any:
        response = self.response
        content = response.getvalue() if response.streaming else response.content
        if not content:
            return None
        if "json" in response.get("Content-Type", ""):
            return json.loads(content)
        return content
