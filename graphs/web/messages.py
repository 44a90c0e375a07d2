"""Errors as messages on pages."""

from graphs.definition import errors


def message_of(error: errors.StateManagerError) -> str:
    """The message of an error, followed by every problem that the error lists."""
    return "; ".join([str(error), *map(str, error.extra.get("errors", []))])
