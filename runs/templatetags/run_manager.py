"""What the Run Manager's templates need beyond Django's own tags."""

from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()


@register.filter
def of(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a mapping for a key that is itself a variable; "" when there is none."""
    return mapping.get(key, "")


@register.filter
def short(text: str, length: int = 13) -> str:
    """The first characters of an id."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
