"""Template tags and filters that the pages of both apps use."""

import json
from collections.abc import Iterable, Mapping, Sequence

from django import template
from django.template.context import Context
from django.utils import timezone
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe

from graphs.definition.types import Json
from graphs.web import formats, json_tree, pickers
from graphs.web.page_guard import caller_of
from statemanager import __version__

register = template.Library()
MAX_LINE = 4096  # characters of a log line
MAX_JSON = 10_000  # characters of a value
register.filter("moment", formats.moment)
register.simple_tag(timezone.get_current_timezone_name, name="time_zone")
register.simple_tag(lambda: __version__, name="statemanager_version")
register.filter("length_of", formats.length)
register.filter("seconds", formats.seconds)
register.filter("percent", formats.percent)
register.filter("took", formats.took)


@register.simple_tag(takes_context=True)
def sees_runs(context: Context) -> bool:
    """Whether the user may view runs in at least one namespace."""
    request = context.get("request")
    return bool(request and request.user.is_authenticated and caller_of(request).may("view"))


@register.filter
def of(mapping: Mapping[str, Json], key: str) -> Json:
    """The value of a key that is itself a variable, or "" if the mapping doesn't have the key."""
    return mapping.get(key, "")


@register.simple_tag
def options(names: Iterable[object], chosen: object = "") -> SafeString:
    """The options of a menu.

    The filters of a list may have hundreds of options, and a loop in a template takes several times
    as long as this.
    """
    rendered = [
        f"<option{' selected' if name == chosen else ''}>{escape(name)}</option>" for name in names
    ]
    return mark_safe("".join(rendered))  # noqa: S308  (escaped above)


@register.simple_tag
def picker(
    name: str,
    names: Sequence[str],
    chosen: str,
    empty: str,
    kind: str,
    run: int | None = None,
    label: str = "",
) -> SafeString:
    """The field of a filter: a menu of all names or, if there are many, a text with suggestions.

    `empty` is what no choice means, "" if one must be chosen; `kind` and `run` say where further
    suggestions come from.
    """
    if len(names) > pickers.MAX_CHOICES:
        params = f"&run={run}" if run else ""
        return pickers.suggestions(
            name, names, kind, chosen, params, id=f"rm-{name}", empty=empty, label=label
        )
    offered = [chosen, *names] if chosen and chosen not in names else names
    first = format_html('<option value="">{}</option>', empty) if empty else ""
    named = format_html(' aria-label="{}"', label) if label else ""
    return format_html(
        '<select name="{}"{}>{}{}</select>', name, named, first, options(offered, chosen)
    )


@register.filter
def visible(text: str) -> str:
    """A line with its control characters replaced, and cut if it is very long."""
    cleaned = "".join(
        letter if letter.isprintable() or letter in "\t\n" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
    rest = len(cleaned) - MAX_LINE
    if rest <= 0:
        return cleaned
    return f"{cleaned[:MAX_LINE]}… {rest:,} more characters are in the download"


@register.filter
def is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@register.filter
def is_plain(value: Json) -> bool:
    """Whether a value is shown as it is. Lists and objects are shown as JSON."""
    return isinstance(value, str | int | float)


@register.filter
def first_names(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


@register.filter
def words(text: str) -> list[str]:
    """The words of a text, for a loop over constants."""
    return text.split()


@register.filter
def short(text: str, length: int = 13) -> str:
    """The beginning of an id."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


@register.filter
def tree(value: Json) -> SafeString:
    """A value as a tree or, if it is large, as indented JSON."""
    if json_tree.is_small(value):
        return json_tree.tree(value)
    return format_html("<pre>{}</pre>", pretty(value))


@register.filter
def pretty(value: Json) -> str:
    """A value as indented JSON, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    rest = len(text) - MAX_JSON
    return text if rest <= 0 else f"{text[:MAX_JSON]}\n… {rest:,} more characters"
