"""What the Run Manager's templates need beyond Django's own tags."""

import json
from collections.abc import Mapping
from typing import Any

from django import template

register = template.Library()
LONGEST = 10_000  # characters of a value that a page shows


@register.filter
def of(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a mapping for a key that is itself a variable; "" when there is none."""
    return mapping.get(key, "")


@register.filter
def short(text: str, length: int = 13) -> str:
    """The first characters of an id."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@register.filter
def pretty(value: Any) -> str:
    """JSON for people, cut when it is long."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters"
