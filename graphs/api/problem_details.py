"""The body of every refusal: the members of RFC 9457, always with `detail`."""

from http import HTTPStatus

from graphs.definition.types import Json, JsonObject

PROBLEM = "application/problem+json"


def problem(status: int, detail: Json, **extra: Json) -> JsonObject:
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **extra,
    }
