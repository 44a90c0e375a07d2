"""The body of every refusal: RFC 9457's members, with `detail` always present."""

from http import HTTPStatus
from typing import Any

PROBLEM = "application/problem+json"


def problem(status: int, detail: Any, **extra: Any) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **extra,
    }
