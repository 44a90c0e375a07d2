"""Errors as messages on pages."""

from graphs.definition import errors


def message_of(error: errors.StateManagerError) -> str:
    """The error's sentence, followed by every problem that it lists."""
    return "; ".join([str(error), *map(str, error.extra.get("errors", []))])
