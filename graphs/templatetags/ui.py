"""Template tags and filters that the pages of both apps use."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django import template
from django.utils.html import escape
from django.utils.safestring import mark_safe

from graphs.web import formats
from graphs.web.page_guard import caller_of

register = template.Library()
LONGEST_LINE = 4096
LONGEST = 10_000  # characters of a value that a page shows
register.filter("moment", formats.moment)
register.filter("length_of", formats.length)
register.filter("took", formats.took)


@register.simple_tag(takes_context=True)
def sees_runs(context: Any) -> bool:
    """Whether the user may see any runs."""
    request = context.get("request")
    return bool(request and request.user.is_authenticated and caller_of(request).may("view"))


@register.filter
def of(mapping: Mapping[str, Any], key: str) -> Any:
    """The value of a mapping for a key that is itself a variable; "" when there is none."""
    return mapping.get(key, "")


@register.simple_tag
def options(names: Iterable[Any], chosen: Any = "") -> str:
    """The options of a menu. Drawn here: a template takes several times as long for the hundreds that a list's filters may have."""
    drawn = [
        f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>" for name in names
    ]
    return mark_safe("".join(drawn))  # noqa: S308 – escaped above


@register.filter
def visible(text: str) -> str:
    """A line without control characters, cut when it is very long."""
    cleaned = "".join(
        letter if letter.isprintable() or letter in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
    return (
        cleaned
        if len(cleaned) <= LONGEST_LINE
        else f"{cleaned[:LONGEST_LINE]}… {len(cleaned) - LONGEST_LINE:,} more characters are in the download"
    )


@register.filter
def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@register.filter
def is_plain(value: Any) -> bool:
    """Whether a value is shown as it is; lists and objects are shown as JSON."""
    return isinstance(value, str | int | float)


@register.filter
def words(text: str) -> list[str]:
    return text.split()


@register.filter
def short(text: str, length: int = 13) -> str:
    """The first characters of an id."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@register.filter
def pretty(value: Any) -> str:
    """JSON for people, cut when it is long."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return (
        text
        if len(text) <= LONGEST
        else f"{text[:LONGEST]}\n… {len(text) - LONGEST:,} more characters"
    )
