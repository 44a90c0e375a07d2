"""The search box of the Run Manager: words, patterns, and `key:value` tokens, each of which a minus before it negates.

What is no token is searched as one phrase in run ids and names; with a `*` in it, it is a pattern for the whole of either. A word that looks like a
token and is none is searched as text, too, and a notice says so: nothing is dropped in silence.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.lookups import Exact
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from runs.core import sql, statuses
from runs.models import Run

_TOKEN = re.compile(r'(-?)(\w+):("[^"]*"|\S+)')
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_TOKENS, MAX_STARS = 20, 5
LONGEST_SPAN = 100 * 366 * 86400.0


@dataclass
class Search:
    """The condition that a text stands for, and what of it was not understood."""

    condition: Q = field(default_factory=Q)
    notices: list[str] = field(default_factory=list)


def parse(text: str) -> Search:
    """Read a search text. It never fails: what can't be read is searched as text."""
    search, words, at = Search(), [], 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        words.append(text[at : match.start()])
        at = match.end()
        minus, key, value = match[1], match[2].lower(), match[3].strip('"')
        try:
            if count >= MAX_TOKENS:
                raise ValueError(f"more than {MAX_TOKENS} tokens")
            if key not in TOKENS:
                raise ValueError(f"{key}: is none of the tokens {', '.join(TOKENS)}")
            condition = TOKENS[key](value)
        except (ValueError, OverflowError) as error:
            search.notices.append(f"{match[0][:60]!r} was searched as text: {error}.")
            words.append(match[0])
        else:
            search.condition &= ~condition if minus else condition
    phrase = " ".join(" ".join([*words, text[at:]]).split())
    if phrase:
        search.condition &= _phrase(phrase, search.notices)
    return search


def _phrase(text: str, notices: list[str]) -> Q:
    if "*" in text and text.count("*") <= MAX_STARS:
        return Q(run_id__like=text) | Q(name__like=text)
    if "*" in text:
        notices.append(f"A pattern may hold {MAX_STARS} stars; this one was searched as text.")
    return Q(run_id__icontains=text) | Q(name__icontains=text)


def _pattern(column: str) -> Callable[[str], Q]:
    def condition(value: str) -> Q:
        if value.count("*") > MAX_STARS:
            raise ValueError(f"a pattern may hold {MAX_STARS} stars")
        return Q(**{f"{column}__like" if "*" in value else column: value})

    return condition


def _part(column: str) -> Callable[[str], Q]:
    return lambda value: Q(**{f"{column}__icontains": value})


def _status(value: str) -> Q:
    words = {
        "error": statuses.FAILED,
        "pending": statuses.RUN_QUEUED,
        "active": statuses.ACTIVE_RUNS,
        "ended": statuses.ENDED_RUNS,
    }
    found: list[str] = []
    for word in value.lower().split(","):
        known = words.get(word, word)
        found += [known] if isinstance(known, str) else known
    if wrong := set(found) - set(statuses.RUN_STATUSES):
        raise ValueError(f"{', '.join(sorted(wrong))} is no status")
    return Q(status__in=found)


def graph_named(value: str) -> Q:
    """A graph by its name, or by namespace/name."""
    namespace, slash, name = value.partition("/")
    return (
        Q(graph__namespace__name=namespace, graph__name=name)
        if slash
        else _pattern("graph__name")(value)
    )


def labelled(value: str) -> Q:
    """A label by its key, or by key=value."""
    key, equals, wanted = value.partition("=")
    if not key:
        raise ValueError("a label is key=value, or a key alone")
    if not equals:
        return Q(labels__has_key=key)
    if sql.postgres():
        return Q(labels__contains={key: wanted})  # what an index on the column can find
    return Q(Exact(KeyTextTransform(key, F("labels")), Value(wanted)))


def _moment(text: str) -> tuple[datetime, datetime]:
    """When a moment or a day begins and ends."""
    if day := parse_date(text):
        begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return begins, begins + timedelta(days=1)
    found = parse_datetime(text)
    if found is None:
        raise ValueError("a time is a date, such as 2026-11-01, or a date with a time")
    begins = found if found.tzinfo else found.replace(tzinfo=UTC)
    return begins.astimezone(UTC), begins.astimezone(UTC)


def _when(column: str) -> Callable[[str], Q]:
    def condition(value: str) -> Q:
        sign = value[0] if value[:1] in "<>" else ""
        begins, ends = _moment(value.lstrip("<>="))
        if sign == ">":
            return Q(**{f"{column}__gte": begins if value.startswith(">=") else ends})
        if sign == "<":
            return Q(**{f"{column}__lt": begins})
        return Q(
            **{f"{column}__gte": begins, f"{column}__lt": max(ends, begins + timedelta(seconds=1))}
        )

    return condition


def span(text: str) -> timedelta:
    """A length of time such as 90s, 5m, 24h or 7d."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError("a length of time is a number with s, m, h or d, such as 5m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST_SPAN:
        raise ValueError("a length of time is at most 100 years")
    return timedelta(seconds=seconds)


def _duration(value: str) -> Q:
    length = span(value.lstrip("<>="))
    took = F("started_at") + length
    return Q(finished_at__lt=took) if value.startswith("<") else Q(finished_at__gte=took)


def recovered() -> Exists:
    """A later rerun in the same tree completed."""
    later = Run.objects.filter(
        Q(root=OuterRef("root")) | Q(root=OuterRef("pk")),
        pk__gt=OuterRef("pk"),
        status=statuses.COMPLETED,
    )
    return Exists(later)


def recovered_or_not(value: str) -> Q:
    failed = Q(status__in=(statuses.FAILED, statuses.PARTIAL))
    if value not in ("yes", "no"):
        raise ValueError("recovered: takes yes or no")
    return failed & (Q(recovered()) if value == "yes" else ~Q(recovered()))


def _has(value: str) -> Q:
    known = {"checkpoint": "checkpoints", "artifact": "artifacts", "rerun": "reruns"}
    if value not in known:
        raise ValueError(f"has: takes one of {', '.join(known)}")
    relation = Run._meta.get_field(known[value])
    assert relation.related_model is not None
    model: Any = relation.related_model
    return Q(Exists(model.objects.filter(**{relation.field.name: OuterRef("pk")})))  # type: ignore[union-attr]


def since(text: str) -> datetime:
    """The moment this long ago."""
    return timezone.now() - span(text)


TOKENS: Mapping[str, Callable[[str], Q]] = {
    "status": _status,
    "graph": graph_named,
    "user": _pattern("username"),
    "workspace": _pattern("workspace"),
    "namespace": _pattern("namespace__name"),
    "label": labelled,
    "trigger": lambda value: Q(trigger=value.lower()),
    "id": _pattern("run_id"),
    "name": _part("name"),
    "error": _part("error_message"),
    "node": _pattern("current_node"),
    "session": _pattern("session_id"),
    "parent": _pattern("parent__run_id"),
    "created": _when("created_at"),
    "finished": _when("finished_at"),
    "duration": _duration,
    "recovered": recovered_or_not,
    "has": _has,
}
