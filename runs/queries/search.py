"""The search box of the Run Manager: text, patterns, and `key:value` tokens.

A minus before a token negates it. Everything that is not a token is one phrase, which is searched
in run ids and names; a phrase with a `*` is a pattern for the whole id or name. A word that looks
like a token but can't be read as one is searched as text as well, and a notice says so: no part of
the text is dropped silently.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import BooleanField, Case, Exists, F, OuterRef, Q, Value, When
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from graphs.definition import value_paths
from graphs.definition.types import Json
from runs.core import statuses
from runs.models import Artifact, Checkpoint, RecurringRerun, Run, RunInput, digest_of
from runs.queries.labels import labelled

Condition = Callable[[str], Q]  # reads a token's value; raises ValueError or OverflowError

MAX_LENGTH = 2000  # characters of a search text
MAX_TOKENS = 20
INPUT = "input"
PAYLOAD_TOKENS = ("error", INPUT)
MAX_STARS = 5
MAX_SPAN_SECONDS = 100 * 366 * 86400.0
# `\b` lets a key begin only where a word begins. Without it, each letter of a long word would be
# tried as the beginning of a key, which takes a time that is quadratic in the length of the word.
# The names of inputs and labels and their values may be quoted as in JSON, with blanks in them.
_QUOTED_PARTS = r'(?<=(?i:input:|label:))(?:[^\s"]|"(?:[^"\\]|\\.)*")+(?!\S)'
_TOKEN = re.compile(rf'(-?)\b(\w+):("[^"]*"(?!\S)|{_QUOTED_PARTS}|"[^"]*"|\S+)')
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_COMPARISON = re.compile(r"[<>]=?")
_LOOKUPS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass
class Search:
    """The condition that a search text means, and notices about what was searched as text.

    `payloads` says that it searches what runs worked on, which not everybody may see, and `inputs`
    are the paths of the inputs that it names. Whether graphs declare these is not checked here.
    """

    condition: Q = field(default_factory=Q)
    notices: list[str] = field(default_factory=list)
    payloads: bool = False
    inputs: list[str] = field(default_factory=list)


def parse(text: str) -> Search:
    """Read a search text. Parsing never fails: what is not a token is searched as text."""
    search = Search()
    phrase_parts: list[str] = []
    end = 0
    for count, match in enumerate(_TOKEN.finditer(text)):
        phrase_parts.append(text[end : match.start()].strip())
        end = match.end()
        minus, key, value = match[1], match[2].lower(), match[3]
        if key != INPUT:
            value = _unquoted(value)
        try:
            condition = _token(key, value, count)
        except (ValueError, OverflowError) as error:
            search.notices.append(f"{match[0][:60]!r} was searched as text: {error}.")
            phrase_parts.append(match[0])
        else:
            search.condition &= without(condition) if minus else condition
            search.payloads |= key in PAYLOAD_TOKENS
            if key == INPUT:
                search.inputs.append(_path_and_value(value)[0])
    phrase_parts.append(text[end:].strip())
    phrase = " ".join(filter(None, phrase_parts))
    if phrase:
        search.condition &= _phrase(phrase, search.notices)
    return search


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2
    return text[1:-1] if is_quoted else text


def without(condition: Q) -> Q:
    """All rows for which the condition is not true.

    `~condition` would leave out rows for which it is NULL, as for a column without a value.
    """
    matches = When(condition, then=Value(False))
    return Q(Case(matches, default=Value(True), output_field=BooleanField()))


def _token(key: str, value: str, tokens_before: int) -> Q:
    """The condition of a token. Raises ValueError or OverflowError if it is not one."""
    if tokens_before >= MAX_TOKENS:
        raise ValueError(f"there are more than {MAX_TOKENS} tokens")
    if key not in TOKENS:
        raise ValueError(f"{key}: is none of the tokens {', '.join(TOKENS)}")
    return TOKENS[key](value)


def _phrase(text: str, notices: list[str]) -> Q:
    stars = text.count("*")
    if 0 < stars <= MAX_STARS:
        return Q(run_id__like=text) | Q(name__like=text)
    if stars:
        notices.append(
            f"A pattern can have up to {MAX_STARS} stars; this one was searched as text."
        )
    return Q(run_id__any_case=text) | Q(name__any_case=text)


def _pattern(column: str) -> Condition:
    """The column equals the value; if that has stars, the column matches it in any case."""

    def condition(value: str) -> Q:
        if value.count("*") > MAX_STARS:
            raise ValueError(f"a pattern can have up to {MAX_STARS} stars")
        return Q(**{f"{column}__like" if "*" in value else column: value})

    return condition


def _part(column: str) -> Condition:
    """The column contains the value, in any case."""
    return lambda value: Q(**{f"{column}__any_case": value})


def _status(value: str) -> Q:
    """One or several statuses, separated by commas, or groups of statuses."""
    wanted: list[str] = []
    unknown = set()
    for word in value.lower().split(","):
        if word in statuses.RUN_WORDS:
            wanted += statuses.RUN_WORDS[word]
        else:
            unknown.add(word)
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} is not a status")
    return Q(status__in=wanted)


def graph_named(value: str) -> Q:
    """Runs of a graph, given as its name or as namespace/name."""
    namespace, slash, name = value.partition("/")
    if slash:
        return _pattern("graph__namespace__name")(namespace) & _pattern("graph__name")(name)
    return _pattern("graph__name")(value)


def _trigger(value: str) -> Q:
    trigger = value.lower()
    if "*" not in trigger and trigger not in Run.Trigger.values:
        raise ValueError(f"trigger: takes one of {', '.join(Run.Trigger.values)}")
    return _pattern("trigger")(trigger)


def of_session(value: str) -> Q:
    """Runs of a session. Naming that it is not empty lets an index answer."""
    return ~Q(session_id="") & _pattern("session_id")(value)


def _period(text: str) -> tuple[datetime, datetime]:
    """The beginning and the end of a day; for a moment, both are that moment."""
    if day := parse_date(text):
        begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return begins, begins + timedelta(days=1)
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError("a time is a date, such as 2026-11-01, or a date with a time")
    begins = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    return begins, begins


def _compared(value: str) -> tuple[str, str]:
    """The comparison before a value, or "", and the value."""
    match = _COMPARISON.match(value)
    return (match[0], value[match.end() :]) if match else ("", value)


def _time(column: str) -> Condition:
    """The column lies in the period, before it (`<`), after it (`>`), not before it (`>=`) or not
    after it (`<=`). A moment is a second long.
    """

    def condition(value: str) -> Q:
        comparison, text = _compared(value)
        begins, ends = _period(text)
        ends = max(ends, begins + timedelta(seconds=1))
        if comparison == ">=":
            return Q(**{f"{column}__gte": begins})
        if comparison == ">":
            return Q(**{f"{column}__gte": ends})
        if comparison == "<=":
            return Q(**{f"{column}__lt": ends})
        if comparison == "<":
            return Q(**{f"{column}__lt": begins})
        return Q(**{f"{column}__gte": begins, f"{column}__lt": ends})

    return condition


def span(text: str) -> timedelta:
    """A length of time such as 90s, 5m, 24h or 7d. Raises ValueError for anything else."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError("a length of time is a number with s, m, h or d, such as 5m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > MAX_SPAN_SECONDS:
        raise ValueError("a length of time is at most 100 years")
    return timedelta(seconds=seconds)


def since(text: str) -> datetime:
    """The moment that lies this length of time in the past."""
    return timezone.now() - span(text)


def _duration(value: str) -> Q:
    comparison, text = _compared(value)
    if not comparison:
        raise ValueError("duration: takes a comparison, such as >5m or <=30s")
    limit = F("started_at") + span(text)
    return Q(**{f"finished_at__{_LOOKUPS[comparison]}": limit})


def recovered() -> Exists:
    """Whether a later rerun in the same tree completed."""
    later_reruns = Run.objects.filter(
        Q(root=OuterRef("root")) | Q(root=OuterRef("pk")),
        pk__gt=OuterRef("pk"),
        status=statuses.COMPLETED,
    )
    return Exists(later_reruns)


def recovered_or_not(value: str) -> Q:
    """Failed runs that a rerun recovered (`yes`), or that no rerun did (`no`)."""
    failed = Q(status__in=statuses.UNSUCCESSFUL)
    answer = value.lower()
    if answer not in ("yes", "no"):
        raise ValueError("recovered: takes yes or no")
    return failed & (Q(recovered()) if answer == "yes" else ~Q(recovered()))


def _has(value: str) -> Q:
    """Runs that have at least one row of this kind."""
    conditions = {
        "checkpoint": Exists(Checkpoint.objects.filter(run=OuterRef("pk"))),
        "artifact": Exists(Artifact.objects.filter(run=OuterRef("pk"))),
        "rerun": Exists(Run.objects.filter(parent=OuterRef("pk"))),
        "schedule": Exists(RecurringRerun.objects.filter(run=OuterRef("pk"))),
    }
    if value.lower() not in conditions:
        raise ValueError(f"has: takes one of {', '.join(conditions)}")
    return Q(conditions[value.lower()])


def _input(text: str) -> Q:
    """Runs whose inputs have this value at a path that their graph declares, or any value."""
    path, value = _path_and_value(text)
    indexed = RunInput.objects.filter(input__path=path, input__dropped=False)
    if value is not value_paths.MISSING:
        indexed = indexed.filter(digest=digest_of(value))
    return Q(pk__in=indexed.values("run"))  # as IN, because SQLite enters no index by EXISTS


def _path_and_value(text: str) -> tuple[str, Json]:
    """The path that is written before the first `=`, and the value after it or MISSING.

    The value is a number, true, false, null or a quoted text as in JSON; whatever else is a text.
    """
    if text[:1] == text[-1:] == '"':
        text = text[1:-1]
    path, rest = value_paths.parse_beginning(text)
    if rest and not rest.startswith("="):
        raise ValueError("input: takes a path such as customer.id, or customer.id=42")
    return value_paths.written(path), _value(rest[1:]) if rest else value_paths.MISSING


def _value(text: str) -> Json:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith('"'):
            raise ValueError("a quoted value is a text as in JSON") from None
        return text
    if isinstance(value, dict | list):
        raise ValueError("lists and objects have no value to search for; name what is in them")
    is_number = not isinstance(value, float) or math.isfinite(value)
    return value if is_number else text


TOKENS: Mapping[str, Condition] = {
    "status": _status,
    "graph": graph_named,
    "user": _pattern("username"),
    "workspace": _pattern("workspace"),
    "namespace": _pattern("namespace__name"),
    "label": labelled,
    "trigger": _trigger,
    "id": _pattern("run_id"),
    "name": _part("name"),
    "error": _part("error_message"),
    INPUT: _input,
    "node": _pattern("current_node"),
    "session": of_session,
    "parent": _pattern("parent__run_id"),
    "created": _time("created_at"),
    "finished": _time("finished_at"),
    "duration": _duration,
    "recovered": recovered_or_not,
    "has": _has,
}
