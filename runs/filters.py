"""The filters of runs and states: one definition for the API and the pages."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Lookup, QuerySet
from django_filters.filters import BaseInFilter, CharFilter, IsoDateTimeFilter

from runs import statuses
from runs.models import Run, State

MAX_STARS = 5


class Like(Lookup):
    """SQL's LIKE with `*` for anything; everything else stands for itself."""

    lookup_name = "like"

    def as_sql(self, compiler: Any, connection: Any) -> Any:
        left, params = self.process_lhs(compiler, connection)
        pattern = str(self.rhs).replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
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
    run_id = PatternFilter(field_name="run_id", help_text="a part of the run id, or a pattern with *")

    class Meta:
        model = Run
        fields: list[str] = []


class RunFilter(OfRunFilter):
    """Runs by status (our words or those of `/v0` rows) and time of creation, too."""

    status = WordsFilter(words=(*statuses.RUN_STATUSES, "SUCCESS", "FAILED", "PENDING"), method="with_status")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    def with_status(self, queryset: QuerySet[Run], name: str, words: list[str]) -> QuerySet[Run]:
        wire = {word: [ours for ours, theirs in statuses.V0_RUN_WORDS.items() if theirs == word] for word in statuses.V0_RUN_WORDS.values()}
        return queryset.filter(status__in=[ours for word in words for ours in wire.get(word, [word])])


class ManagerFilter(django_filters.FilterSet):
    """The Run Manager's filters (seed 001), and a status."""

    username = CharFilter(help_text="who started it")
    workspace = CharFilter(help_text="its workspace")
    search = CharFilter(method="with_text", help_text="a part of the run id or the name, in any case")
    status = WordsFilter(words=statuses.RUN_STATUSES, field_name="status", lookup_expr="in")

    class Meta:
        model = Run
        fields: list[str] = []

    def with_text(self, queryset: QuerySet[Run], name: str, text: str) -> QuerySet[Run]:
        return queryset.filter(models.Q(run_id__icontains=text) | models.Q(name__icontains=text))
