"""The filters of runs and states: one definition for the API and the pages."""

import re
from collections.abc import Iterable
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters.constants import EMPTY_VALUES
from django_filters.filters import BaseInFilter, CharFilter, IsoDateTimeFilter

from runs import statuses
from runs.models import Run, State

MAX_STARS = 5


class WordsFilter(BaseInFilter, CharFilter):
    """One of these words or several, separated by commas."""

    def __init__(self, *args: Any, words: Iterable[str], **options: Any) -> None:
        known = set(words)

        def check(asked: list[str]) -> None:
            if wrong := [word for word in asked if word not in known]:
                raise ValidationError(f"{', '.join(map(repr, wrong))[:200]} is none of {', '.join(sorted(known))}.")

        said = f"one or several, separated by commas, of: {', '.join(words)}"
        super().__init__(*args, help_text=said, validators=[check], **options)


class PatternFilter(CharFilter):
    """Text in which `*` stands for anything; without one, a part of the value."""

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        if value in EMPTY_VALUES:
            return queryset
        if "*" not in value:
            return queryset.filter(**{f"{self.field_name}__contains": value})
        parts = [re.escape(part) for part in value.split("*", MAX_STARS)]
        return queryset.filter(**{f"{self.field_name}__regex": f"^{'.*'.join(parts)}$"})


class StateFilter(django_filters.FilterSet):
    """States by status, node and time of creation; their runs by graph and run id pattern (`OfRunFilter`)."""

    status = WordsFilter(words=statuses.STATE_STATUSES, field_name="status", lookup_expr="in")
    identifier = CharFilter(help_text="the node's identifier in its graph")
    created_after = IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", help_text="ISO 8601")
    created_before = IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", help_text="ISO 8601")

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
    created_after = IsoDateTimeFilter(field_name="created_at", lookup_expr="gte", help_text="ISO 8601")
    created_before = IsoDateTimeFilter(field_name="created_at", lookup_expr="lt", help_text="ISO 8601")

    def with_status(self, queryset: QuerySet[Run], name: str, words: list[str]) -> QuerySet[Run]:
        wire = {word: [ours for ours, theirs in statuses.V0_RUN_WORDS.items() if theirs == word] for word in statuses.V0_RUN_WORDS.values()}
        return queryset.filter(status__in=[ours for word in words for ours in wire.get(word, [word])])
