"""What the OpenAPI schema says about all operations."""

from typing import Any

from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.serializers import Serializer

from graphs.api.problem_details import PROBLEM
from graphs.api.serializers import ProblemSerializer
from graphs.definition.types import JsonObject

Responses = dict[Any, Any]  # by status code, or by status code and media type
REFUSAL_CODES = (400, 401, 403, 404, 405, 409, 410, 411, 413, 415, 422, 429, 503)
REFUSALS: Responses = dict.fromkeys(((code, PROBLEM) for code in REFUSAL_CODES), ProblemSerializer)
IDEMPOTENCY_KEY = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": (
        "A repeated request with the same key within 24 hours gets the first answer "
        "and does nothing again."
    ),
}
RETRY_AFTER = {
    "schema": {"type": "integer"},
    "description": (
        "Seconds to wait; sent while the first request with this Idempotency-Key "
        "is still being answered."
    ),
}


class OperationSchema(AutoSchema):
    """Components keep the names that they have had, and answers are documented as they are.

    A list's answer isn't wrapped in a component of its pagination class: each list names the
    serializer of its whole answer.
    """

    def get_serializer_name(self, serializer: Serializer, direction: str) -> str:
        """`RunSerializer` is the component `RunShape`, a name that generated clients use."""
        name = type(serializer).__name__
        is_ours = type(serializer).__module__.startswith(("graphs.", "runs."))
        if is_ours and name.endswith("Serializer"):
            return f"{name.removesuffix('Serializer')}Shape"
        return name

    def get_filter_backends(self) -> list[Any]:
        return getattr(self.view, "filter_backends", []) if self._reads_pages() else []

    def _get_pagination_parameters(self) -> list[JsonObject]:
        paginator: BasePagination | None = getattr(self.view, "paginator", None)
        if paginator is None or not self._reads_pages():
            return []
        return paginator.get_schema_operation_parameters(self.view)

    def _get_paginator(self) -> None:
        return None

    def _is_list_view(self, serializer: Any = None) -> bool:
        return bool(getattr(serializer, "many", False))

    def _reads_pages(self) -> bool:
        return self.method == "GET" and getattr(self.view, "reads_pages", False)


def add_idempotency_keys(
    result: JsonObject, generator: SchemaGenerator, request: Request | None, public: bool
) -> JsonObject:
    """Every POST except those for tokens accepts an `Idempotency-Key`, and may answer 409."""
    result["components"].setdefault("headers", {})["RetryAfter"] = RETRY_AFTER
    for path, operations in result["paths"].items():
        if "post" in operations and not path.startswith("/token"):
            operations["post"].setdefault("parameters", []).append(IDEMPOTENCY_KEY)
            operations["post"]["responses"]["409"]["headers"] = {
                "Retry-After": {"$ref": "#/components/headers/RetryAfter"}
            }
    return result
