"""What the OpenAPI schema says of all operations alike."""

from typing import Any

HEADER = {
    "in": "header",
    "name": "Idempotency-Key",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": "A repeat with the same key within 24 hours gets the first answer and does nothing again.",
}
RETRY_AFTER = {
    "schema": {"type": "integer"},
    "description": "Seconds; there while the first request with this Idempotency-Key is still being answered.",
}


def add_idempotency_keys(
    result: dict[str, Any], generator: Any, request: Any, public: bool
) -> dict[str, Any]:
    """Every POST but those that issue tokens takes an `Idempotency-Key`, and may be told to repeat it later."""
    result["components"].setdefault("headers", {})["RetryAfter"] = RETRY_AFTER
    for path, operations in result["paths"].items():
        if "post" in operations and not path.startswith("/token"):
            operations["post"].setdefault("parameters", []).append(HEADER)
            operations["post"]["responses"]["409"]["headers"] = {
                "Retry-After": {"$ref": "#/components/headers/RetryAfter"}
            }
    return result
