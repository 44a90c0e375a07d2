"""The filters of runs and states: one definition for the API and the pages."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Lookup, Q, QuerySet
from django.http import QueryDict
from django_filters.filters import BaseInFilter, CharFilter, IsoDateTimeFilter

from graphs.definition import errors
from runs.core import statuses
from runs.models import Run, State
from runs.queries import search as search_module

MAX_STARS = 5


class Like(Lookup):
    """SQL's LIKE with `*` for anything; everything else stands for itself."""

    lookup_name = "like"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, params = self.process_lhs(compiler, connection)
        pattern = (
            str(self.rhs)
            .replace("\\", "\\\\")
            .replace("%", "\\%")
            .replace("_", "\\_")
            .replace("*", "%")
        )
        return f"{left} LIKE %s ESCAPE '\\'", [*params, pattern]


models.CharField.register_lookup(Like)


class WordsFilter(BaseInFilter, CharFilter):
    """One of these words or several, separated by commas."""

    def __init__(self, *args: Any, words: Iterable[str], **options: Any) -> None:
        known = set(words)

        def check(word: str) -> None:
            if word not in known:
                raise ValidationError(f"{word!r:.80} is none of {', '.join(sorted(known))}.")

        said = f"one or several, separated by commas, of: {', '.join(words)}"
        super().__init__(*args, help_text=said, validators=[_each(check)], **options)


def _each(check: Callable[[str], None]) -> Callable[[str], None]:
    def all_of(text: str) -> None:
        for word in text.split(",") if isinstance(text, str) else text:
            check(word.strip())

    return all_of


class PatternFilter(CharFilter):
    """Text in which `*` stands for anything; without one, a part of the value."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, validators=[_few_stars], lookup_expr="like", **options)

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return super().filter(queryset, value if not value or "*" in value else f"*{value}*")


def _few_stars(text: str) -> None:
    if text.count("*") > MAX_STARS:
        raise ValidationError(f"A pattern may hold {MAX_STARS} stars.")


class MomentFilter(IsoDateTimeFilter):
    """A time with its zone; one that no calendar has in UTC is refused."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, validators=[_has_utc], help_text="ISO 8601", **options)


def _has_utc(moment: datetime) -> None:
    try:
        moment.astimezone(UTC)
    except OverflowError:
        raise ValidationError("This time is out of range.") from None


class StateFilter(django_filters.FilterSet):
    """States by status, node and time of creation; their runs by graph and run id pattern (`OfRunFilter`)."""

    status = WordsFilter(words=statuses.STATE_STATUSES, field_name="status", lookup_expr="in")
    identifier = CharFilter(help_text="the node's identifier in its graph")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = State
        fields: list[str] = []


class OfRunFilter(django_filters.FilterSet):
    """Runs by graph and run id pattern."""

    graph = CharFilter(field_name="graph__name", help_text="the name of the graph")
    run_id = PatternFilter(
        field_name="run_id", help_text="a part of the run id, or a pattern with *"
    )

    class Meta:
        model = Run
        fields: list[str] = []


class RunFilter(OfRunFilter):
    """Runs by status (our words or those of `/v0` rows) and time of creation, too."""

    status = WordsFilter(
        words=(*statuses.RUN_STATUSES, "SUCCESS", "FAILED", "PENDING"), method="with_status"
    )
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    def with_status(self, queryset: QuerySet[Run], name: str, words: list[str]) -> QuerySet[Run]:
        wire = {
            word: [ours for ours, theirs in statuses.V0_RUN_STATUSES.items() if theirs == word]
            for word in statuses.V0_RUN_STATUSES.values()
        }
        return queryset.filter(
            status__in=[ours for word in words for ours in wire.get(word, [word])]
        )


class TextFilter(CharFilter):
    """A value that a function of `runs.queries.search` reads; several values must all hold."""

    def __init__(self, *args: Any, read: Callable[[str], Q], **options: Any) -> None:
        def check(text: str) -> None:
            try:
                read(text)
            except (ValueError, OverflowError) as error:
                raise ValidationError(f"{error}.") from None

        self.read = read
        super().__init__(*args, validators=[check], **options)

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        return queryset.filter(self.read(value)) if value else queryset


class ManagerFilter(django_filters.FilterSet):
    """The Run Manager's filters: those of seed 001, and ours. Archived runs are shown when they are asked for, and then alone."""

    search = CharFilter(
        method="with_text",
        help_text="a part of the run id or the name, in any case; tokens such as status:failed or -graph:health",
    )
    username = CharFilter(help_text="who started it")
    workspace = CharFilter(help_text="its workspace")
    status = WordsFilter(words=statuses.RUN_STATUSES, field_name="status", lookup_expr="in")
    namespace = CharFilter(field_name="namespace__name", help_text="its namespace")
    graph = TextFilter(
        read=search_module.graph_named, help_text="the name of its graph, or namespace/name"
    )
    trigger = WordsFilter(words=Run.Trigger.values, field_name="trigger", lookup_expr="in")
    label = TextFilter(read=search_module.labelled, help_text="a label as key=value, or its key")
    since = TextFilter(
        read=lambda text: Q(created_at__gte=search_module.since(text)),
        help_text="not older than this, such as 15m, 24h or 7d",
    )
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")
    recovered = TextFilter(
        read=search_module.recovered_or_not,
        help_text="yes or no: failed runs with or without a later rerun that completed",
    )
    archived = WordsFilter(words=("yes", "no"), method="with_archived")

    class Meta:
        model = Run
        fields: list[str] = []

    def __init__(self, data: Mapping[str, Any], queryset: QuerySet[Run]) -> None:
        """Only the filters that are asked for are made: making all of them takes longer than reading a page of runs."""
        self.__dict__["base_filters"] = {
            name: each for name, each in type(self).base_filters.items() if name in data
        }
        super().__init__(data, queryset=queryset)

    def with_text(self, queryset: QuerySet[Run], name: str, text: str) -> QuerySet[Run]:
        return queryset.filter(search_module.parse(text).condition)

    def with_archived(self, queryset: QuerySet[Run], name: str, words: list[str]) -> QuerySet[Run]:
        return queryset

    @property
    def qs(self) -> QuerySet[Run]:
        found = super().qs
        asked = self.form.cleaned_data.get("archived") or ["no"]
        return (
            found
            if {"yes", "no"} <= set(asked)
            else found.filter(archived_at__isnull="no" in asked)
        )


def found(query: QueryDict, runs: QuerySet[Run]) -> QuerySet[Run]:
    """The runs that a query finds. Raises Malformed naming each filter that can't be read."""
    asked = ManagerFilter(query, queryset=runs)
    if not asked.is_valid():
        raise errors.Malformed(
            [
                {"loc": ["query", name], "msg": " ".join(wrong), "type": "value_error"}
                for name, wrong in asked.errors.items()
            ]
        )
    return asked.qs


def frozen(query: QueryDict) -> dict[str, list[str]]:
    """The query with relative times made absolute, so that it means the same later. It has been read before (`found`)."""
    kept = {name: values for name, values in query.lists() if any(values)}
    if since := kept.pop("since", None):
        asked = ManagerFilter(query, queryset=Run.objects.none())
        after = asked.form.cleaned_data.get("created_after") if asked.is_valid() else None
        kept["created_after"] = [
            max(filter(None, [search_module.since(since[-1]), after])).isoformat()
        ]
    return kept
